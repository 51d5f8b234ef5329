"""The measurements that the project answers for: `python -m benchmarks` prints them beside their goals."""
