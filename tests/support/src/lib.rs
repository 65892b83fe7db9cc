//! The loopback HTTP server behind kithara's tests, examples and benches, and the media it serves.
//!
//! One [`Server`] is one HTTP/1.1 server on `127.0.0.1`, blocking, a thread a connection. It serves a folder (and what
//! [`Server::serve`] adds), writes down every request and connection, and misbehaves exactly where a [`Rule`] says so.
//! Nothing in it sleeps to synchronise: a test waits with [`Server::wait_until`] or holds requests at a [`Gate`].
//!
//! ```
//! use kithara_test_support::{Content, Rule, Server, media};
//!
//! let server = Server::start(media())?;
//! server.serve("/tone.bin", Content::bytes(vec![7; 4096]));
//! // The first request for it is cut by a reset after 1000 bytes, the second meets a 503, the third is answered.
//! let cut = server.rule("/tone.bin", Rule::new().first(1).reset_after(1000));
//! server.rule("/tone.bin", Rule::new().first(1).answer(503, "busy").header("Retry-After", "0"));
//!
//! # use std::io::{Read, Write};
//! let mut client = std::net::TcpStream::connect(server.addr())?;
//! client.write_all(b"GET /tone.bin HTTP/1.1\r\nHost: t\r\n\r\n")?;
//! assert!(client.read_to_end(&mut Vec::new()).is_err(), "a reset");
//!
//! server.wait_until(|log| log.to("/tone.bin").any(|request| request.body_sent == 1000));
//! assert_eq!(cut.hits(), 1);
//! server.stop();
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! | module | holds |
//! |---|---|
//! | `server` | [`Server`]: start, serve, rule, wait, stop |
//! | `rule` | [`Rule`] and [`Gate`]: what goes wrong, when and for whom |
//! | `connection` | one connection: reads heads, answers, obeys the rule |
//! | `content` | [`Content`] and [`Pattern`]: the bytes, their validators and types |
//! | `log` | [`Log`], [`Recorded`], [`Connection`]: what happened |
//! | `running` | [`Running`]: real servers and proxies, where they are installed |
//! | `proxy` | [`FakeProxy`]: HTTP and SOCKS 5 proxies |
//! | `fixture` | [`media`], [`expected`], [`encrypted`], [`serve_encrypted`], [`disk_bytes`], [`disk_room`] |

#![allow(
    clippy::panic,
    reason = "a test fails by panicking; the panic shows what the server saw"
)]

mod connection;
mod content;
mod fixture;
mod log;
mod proxy;
mod rule;
mod running;
mod server;

pub use content::{Content, Pattern};
pub use fixture::{disk_bytes, disk_room, encrypted, expected, media, serve_encrypted};
pub use log::{Connection, Ended, Log, Recorded};
pub use proxy::{FakeProxy, ProxyPlan};
pub use rule::{Gate, Rule, RuleHandle};
pub use running::{Running, free_port, skipped};
pub use server::Server;
