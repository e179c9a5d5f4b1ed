"""What SQS lends, and which key is synced when."""
