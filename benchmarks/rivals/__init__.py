"""What this package is measured against."""
