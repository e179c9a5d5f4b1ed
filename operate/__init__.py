"""What operators run: the verbs of ./sync.sh that are written in Python, and what they share."""
