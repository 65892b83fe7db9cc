//! The loopback HTTP server behind kithara's tests, examples and benches.
