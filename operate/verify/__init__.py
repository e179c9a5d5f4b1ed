"""What ./sync.sh verify does: it sends its own objects through the whole chain."""
