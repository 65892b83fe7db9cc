//! nginx over a folder.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use kithara_test_support::{Running, free_port};
use tempfile::TempDir;

/// A request with this header is answered with so many bytes a second on its connection.
pub(crate) const RATE: &str = "x-rate";

/// A server that ends when this is dropped.
pub(crate) struct Nginx {
    addr: SocketAddr,
    _running: Running,
    _folder: TempDir,
}

/// The program, where Debian puts it.
pub(crate) fn program() -> &'static str {
    let of_debian = "/usr/sbin/nginx";
    if Path::new(of_debian).exists() {
        of_debian
    } else {
        "nginx"
    }
}

/// What a configuration begins with: one process, that writes into `folder` only.
pub(crate) fn alone(folder: &Path) -> String {
    let at = folder.display();
    format!("daemon off;\nmaster_process off;\npid {at}/pid;\nerror_log {at}/log;\nevents {{}}\n")
}

impl Nginx {
    /// Serves `root`. `None`, with a line that says so, where it is not installed.
    pub(crate) fn start(root: &Path) -> Option<Self> {
        let addr = free_port();
        let folder = tempfile::tempdir().unwrap();
        let (at, root) = (folder.path().display(), root.display());
        let config = format!(
            "{alone}http {{\naccess_log off;\nclient_body_temp_path {at}/1;\nproxy_temp_path {at}/2;\n\
             fastcgi_temp_path {at}/3;\nuwsgi_temp_path {at}/4;\nscgi_temp_path {at}/5;\n\
             types {{\napplication/vnd.apple.mpegurl m3u8;\nvideo/mp2t ts;\naudio/aac aac;\naudio/mpeg mp3;\n\
             video/mp4 m4s mp4;\n}}\n\
             map $http_x_rate $rate {{\ndefault $http_x_rate;\n\"\" 0;\n}}\n\
             server {{\nlisten {addr};\nroot {root};\nlimit_rate $rate;\n}}\n}}\n",
            alone = alone(folder.path()),
        );
        let path = folder.path().join("nginx.conf");
        fs::write(&path, config).unwrap();
        let running = Running::start(Command::new(program()).arg("-c").arg(&path), addr)?;
        Some(Self {
            addr,
            _running: running,
            _folder: folder,
        })
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.addr)
    }
}
