// The part of every simulation that does not depend on the design: clocks it, feeds and drains its streams.
// The design's side is one small generated file that defines the gw_* symbols below.
// Usage: <executable> <folder>: reads <folder>/job and <folder>/<k>.in, writes <k>.out, <k>.first, <k>.last,
// <k>.trace and, last of all, <folder>/result.
#include <cinttypes>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

struct GwPort {
    int kind;         // 0 input, 1 output, 2 tap
    uint64_t beats;   // per sample
    size_t bytes;     // of a word
    uint8_t* valid;
    uint8_t* ready;
    uint8_t* last;    // null for a tap
    void* data;
};

extern const int gw_port_count;
extern GwPort gw_ports[];
extern "C" void gw_construct(uint64_t seed);
extern "C" void gw_evaluate(int clock, int reset_n);
extern "C" void gw_destroy();

namespace {

struct Job {
    uint64_t samples = 0, input_stall = 0, output_stall = 0, seed = 0, max_cycles = 0, idle_limit = 0, drain = 0,
             trace = 0, reset_after = 0;
};

struct Random {  // splitmix64; a probability is a threshold of 32 bits
    uint64_t state;
    bool below(uint64_t threshold) {
        uint64_t z = (state += 0x9E3779B97F4A7C15u);
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
        return ((z ^ (z >> 31)) >> 32) < threshold;
    }
};

struct Stream {
    Random random{0};
    std::vector<uint8_t> words;
    std::vector<uint64_t> first, last;
    std::vector<uint8_t> trace;
    uint64_t total = 0, done = 0, beat = 0;
    bool offering = false;       // an input's word is on offer, or an output's was offered and not taken
    std::vector<uint8_t> held;   // the word that an output offered and must keep
};

std::vector<uint8_t> read_file(const std::string& path) {
    std::vector<uint8_t> bytes;
    FILE* file = std::fopen(path.c_str(), "rb");
    if (!file) { std::perror(path.c_str()); std::exit(3); }
    std::fseek(file, 0, SEEK_END);
    bytes.resize(static_cast<size_t>(std::ftell(file)));
    std::rewind(file);
    if (!bytes.empty() && std::fread(bytes.data(), 1, bytes.size(), file) != bytes.size()) std::exit(3);
    std::fclose(file);
    return bytes;
}

void write_file(const std::string& path, const void* data, size_t bytes) {
    FILE* file = std::fopen(path.c_str(), "wb");
    if (!file || std::fwrite(data, 1, bytes, file) != bytes || std::fclose(file) != 0) {
        std::perror(path.c_str());
        std::exit(3);
    }
}

Job read_job(const std::string& path) {
    Job job;
    FILE* file = std::fopen(path.c_str(), "r");
    if (!file) { std::perror(path.c_str()); std::exit(3); }
    for (uint64_t* field : {&job.samples, &job.input_stall, &job.output_stall, &job.seed, &job.max_cycles,
                            &job.idle_limit, &job.drain, &job.trace, &job.reset_after}) {
        if (std::fscanf(file, "%" SCNu64, field) != 1) std::exit(3);
    }
    std::fclose(file);
    return job;
}

class Simulation {
  public:
    Simulation(std::string folder, const Job& job) : m_folder(std::move(folder)), m_job(job) {}

    void run() {
        gw_construct(m_job.seed);
        m_streams.resize(gw_port_count);
        for (int k = 0; k < gw_port_count; ++k) allocate(k);
        start();
        bool cut = m_job.reset_after == 0;  // whether the first part of a run with a reset in it is over
        while (m_status.empty()) {
            for (int k = 0; k < gw_port_count; ++k) drive(k);
            gw_evaluate(0, 1);
            bool moved = false;
            for (int k = 0; k < gw_port_count; ++k) moved |= observe(k) && gw_ports[k].kind != 2;
            m_idle = moved ? 0 : m_idle + 1;
            if (m_status.empty()) {
                if (m_pending == 0 && ++m_draining > m_job.drain) m_status = "ok";
                else if (m_pending && m_idle >= m_job.idle_limit) m_status = "deadlock";
                else if (m_pending && m_job.max_cycles && m_cycle + 1 >= m_job.max_cycles) m_status = "max_cycles";
            }
            if (!m_status.empty()) break;  // the ports still show the state that the report is about
            gw_evaluate(1, 1);
            ++m_cycle;
            if (!cut && m_delivered >= m_job.reset_after) {
                cut = true;
                gw_evaluate(0, 1);
                start();
            }
        }
        report();
        gw_destroy();
    }

  private:
    void allocate(int k) {
        GwPort& port = gw_ports[k];
        Stream& stream = m_streams[k];
        stream.total = m_job.samples * port.beats;
        stream.first.resize(m_job.samples);
        stream.last.resize(m_job.samples);
        if (port.kind == 0) {
            stream.words = read_file(m_folder + "/" + std::to_string(k) + ".in");
            if (stream.words.size() != stream.total * port.bytes) std::exit(3);
        } else {
            stream.words.resize(stream.total * port.bytes);
            stream.held.resize(port.bytes);
        }
    }

    // Holds the design in reset for four cycles; everything begins anew, in cycle 0.
    void start() {
        m_pending = m_cycle = m_idle = m_draining = m_delivered = 0;
        for (int k = 0; k < gw_port_count; ++k) {
            GwPort& port = gw_ports[k];
            Stream& stream = m_streams[k];
            stream.random.state = (m_job.seed + 1) * 0xD1342543DE82EF95u + 0x632BE59BD9B4E019u * (k + 1);
            stream.done = stream.beat = 0;
            stream.offering = false;
            stream.trace.clear();
            if (port.kind == 0) *port.valid = *port.last = 0;
            if (port.kind == 1) *port.ready = 0;
            if (port.kind != 2) m_pending += stream.total;
        }
        for (int cycle = 0; cycle < 4; ++cycle) {
            gw_evaluate(1, 0);
            gw_evaluate(0, 0);
        }
    }

    void drive(int k) {
        GwPort& port = gw_ports[k];
        Stream& stream = m_streams[k];
        if (port.kind == 0 && !stream.offering) {
            stream.offering = stream.done < stream.total && !stream.random.below(m_job.input_stall);
            *port.valid = stream.offering;
            if (stream.offering) {
                std::memcpy(port.data, &stream.words[stream.done * port.bytes], port.bytes);
                *port.last = stream.beat + 1 == port.beats;
            }
        } else if (port.kind == 1) {
            *port.ready = !stream.random.below(m_job.output_stall);
        }
    }

    bool observe(int k) {
        GwPort& port = gw_ports[k];
        Stream& stream = m_streams[k];
        const bool valid = *port.valid, ready = *port.ready;
        if (m_job.trace) stream.trace.push_back(static_cast<uint8_t>(valid | ready << 1));
        if (port.kind == 1) check(k, valid, ready);
        if (!valid || !ready) return false;
        if (port.kind == 0) stream.offering = false;
        if (stream.done == stream.total) {  // a tap may see more than was asked for
            if (port.kind == 1) fail("surplus", k);
            return true;
        }
        const uint64_t sample = stream.done / port.beats;
        if (stream.beat == 0) stream.first[sample] = m_cycle;
        const bool end = stream.beat + 1 == port.beats;
        if (end) stream.last[sample] = m_cycle;
        if (port.kind) std::memcpy(&stream.words[stream.done * port.bytes], port.data, port.bytes);
        if (port.kind == 1 && static_cast<bool>(*port.last) != end) fail("tlast", k);
        stream.beat = end ? 0 : stream.beat + 1;
        ++stream.done;
        if (port.kind != 2) --m_pending;
        if (port.kind == 1) ++m_delivered;
        return true;
    }

    // An output must keep what it offers until it is taken.
    void check(int k, bool valid, bool ready) {
        GwPort& port = gw_ports[k];
        Stream& stream = m_streams[k];
        if (stream.offering && (!valid || std::memcmp(stream.held.data(), port.data, port.bytes) != 0)) {
            fail("unstable", k);
        }
        stream.offering = valid && !ready;
        if (stream.offering) std::memcpy(stream.held.data(), port.data, port.bytes);
    }

    void fail(const char* status, int k) {
        if (m_status.empty()) { m_status = status; m_culprit = k; }
    }

    void report() {
        for (int k = 0; k < gw_port_count; ++k) {
            const Stream& stream = m_streams[k];
            const std::string stem = m_folder + "/" + std::to_string(k);
            if (gw_ports[k].kind) write_file(stem + ".out", stream.words.data(), stream.words.size());
            write_file(stem + ".first", stream.first.data(), stream.first.size() * 8);
            write_file(stem + ".last", stream.last.data(), stream.last.size() * 8);
            if (m_job.trace) write_file(stem + ".trace", stream.trace.data(), stream.trace.size());
        }
        std::string text = m_status + " " + std::to_string(m_cycle) + " " + std::to_string(m_culprit) + "\n";
        for (int k = 0; k < gw_port_count; ++k) {
            text += std::to_string(*gw_ports[k].valid != 0) + " " + std::to_string(*gw_ports[k].ready != 0) + " " +
                    std::to_string(m_streams[k].done) + "\n";
        }
        write_file(m_folder + "/result", text.data(), text.size());
    }

    std::string m_folder;
    Job m_job;
    std::vector<Stream> m_streams;
    std::string m_status;
    int m_culprit = -1;
    uint64_t m_cycle = 0, m_pending = 0, m_idle = 0, m_draining = 0, m_delivered = 0;
};

}  // namespace

int main(int argc, char** argv) {
    if (argc != 2) return 2;
    const std::string folder = argv[1];
    Simulation(folder, read_job(folder + "/job")).run();
    return 0;
}
