//! Programs that listen on a port of loopback: real servers and proxies.

use std::io::Write as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// A program, ended with the test.
#[derive(Debug)]
pub struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Asked to end, it ends its own children. Where there is no `kill`, it alone is ended.
        let asked = Command::new("kill").arg(self.0.id().to_string()).status();
        if !asked.is_ok_and(|status| status.success()) {
            drop(self.0.kill());
        }
        drop(self.0.wait());
    }
}

/// Says what a test leaves out, and why: past the harness, which keeps what a passing test prints. `.ci/run` counts the line.
pub fn skipped(why: &str) {
    let _ = writeln!(std::io::stderr(), "SKIPPED: {why}");
}

/// A port of loopback that was free a moment ago.
///
/// # Panics
///
/// If none is free.
pub fn free_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .unwrap_or_else(|error| panic!("no free port: {error}"))
}

impl Running {
    /// Starts a program, and waits until it listens at `addr`. `None`, with a line that says so, where it is not installed, or
    /// ends at once: some want to be started by root.
    ///
    /// # Panics
    ///
    /// If it does not listen within a minute.
    pub fn start(command: &mut Command, addr: SocketAddr) -> Option<Self> {
        let quiet = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let Ok(child) = quiet.spawn() else {
            skipped(&format!("{command:?} is not installed"));
            return None;
        };
        let mut running = Self(child);
        let deadline = Instant::now() + Duration::from_secs(60);
        // Its own start has no other sign than its port.
        while TcpStream::connect(addr).is_err() {
            if let Ok(Some(status)) = running.0.try_wait() {
                skipped(&format!("{command:?} ended at once, {status}"));
                return None;
            }
            assert!(Instant::now() < deadline, "{command:?} does not listen");
            thread::sleep(Duration::from_millis(20));
        }
        Some(running)
    }
}
