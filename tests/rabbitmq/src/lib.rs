//! Palfrey.
