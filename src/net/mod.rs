//! An HTTP/1.1 client for media.
