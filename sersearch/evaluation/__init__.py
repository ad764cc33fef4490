"""From a ledger to winners, their test predictions, and what their modules represent."""
