"""The streamed level: channels with a layout, and the components that they connect."""
