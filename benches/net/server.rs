//! The server that is measured against.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use kithara::net::Url;
use kithara_test_support::{Content, Pattern, Server};
use tempfile::TempDir;

/// The length of `/small`, that of a segment of music.
pub(crate) const FILE: u64 = 200 << 10;
/// The length of a range: a little more than one packet on loopback, where a corked reply waits for an acknowledgement.
pub(crate) const SMALL: u64 = 64 << 10;
/// The length of `/large`.
const LARGE: u64 = 1 << 30;

/// Runs a command until our end of the pipe is closed, which the system does even if we are killed.
const AS_LONG_AS_WE_LIVE: &str = r#"trap "" INT; "$@" & read -r _; kill $!; wait"#;

/// A server with a `/large` and a `/small` file.
pub(crate) struct Web {
    pub(crate) addr: SocketAddr,
    kind: Kind,
}

enum Kind {
    Nginx { shell: Child, _root: TempDir },
    Own { _server: Server },
}

impl Web {
    pub(crate) fn start() -> Self {
        Self::nginx().unwrap_or_else(|| {
            let server = Server::empty().unwrap();
            server.serve("/large", Content::pattern(&Pattern::new(1), LARGE));
            server.serve("/small", Content::pattern(&Pattern::new(2), FILE));
            Self {
                addr: server.addr(),
                kind: Kind::Own { _server: server },
            }
        })
    }

    fn nginx() -> Option<Self> {
        let root = TempDir::new().ok()?;
        let addr = TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .ok()?;
        fs::write(root.path().join("conf"), settings(root.path(), addr)).ok()?;
        fs::File::create(root.path().join("large"))
            .and_then(|file| file.set_len(LARGE))
            .ok()?;
        fs::write(
            root.path().join("small"),
            Pattern::new(2).range(0, usize::try_from(FILE).ok()?),
        )
        .ok()?;
        let shell = Command::new("sh")
            .args(["-c", AS_LONG_AS_WE_LIVE, "sh", "nginx", "-e", "stderr", "-c"])
            .arg(root.path().join("conf"))
            .stdin(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let web = Self {
            addr,
            kind: Kind::Nginx { shell, _root: root },
        };
        // It says nothing when it is ready; it listens, or it has ended.
        let ready = (0..10_000).any(|_| TcpStream::connect(addr).is_ok());
        ready.then_some(web)
    }

    pub(crate) fn name(&self) -> &'static str {
        match self.kind {
            Kind::Nginx { .. } => "nginx",
            Kind::Own { .. } => "test server",
        }
    }

    pub(crate) fn url(&self, path: &str) -> Url {
        Url::parse(&format!("http://{}{path}", self.addr)).unwrap()
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        if let Kind::Nginx { shell, .. } = &mut self.kind {
            drop(shell.stdin.take());
            let _ = shell.wait();
        }
    }
}

fn settings(root: &Path, addr: SocketAddr) -> String {
    let root = root.display();
    format!(
        "daemon off; master_process off; pid {root}/pid;
         events {{ worker_connections 256; }}
         http {{
             access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000;
             client_body_temp_path {root}/a; proxy_temp_path {root}/b; fastcgi_temp_path {root}/c;
             uwsgi_temp_path {root}/d; scgi_temp_path {root}/e;
             server {{ listen {addr}; root {root}; }}
         }}"
    )
}
