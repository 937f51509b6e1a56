//! A broker in memory.
