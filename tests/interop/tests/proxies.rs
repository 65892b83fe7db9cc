//! W20: the proxies that networks have, where they are installed: squid, tinyproxy, dante. Without them a line says so.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking, and says what it skips"
)]

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use kithara::net::{NetError, Proxy, ProxyFailure, Request};
use kithara_interop::{Running, builder, fetch, free_port, pattern, server_with, url};

/// Starts `program` with a configuration that `config` makes of a port and a folder. `None` where it is not installed.
fn start(
    program: &str,
    folder: &Path,
    arguments: &[&str],
    config: impl Fn(u16, &str) -> String,
) -> Option<(Running, SocketAddr)> {
    let free = free_port();
    let path = folder.join("proxy.conf");
    fs::write(&path, config(free.port(), folder.to_str().unwrap())).unwrap();
    let program_of_debian = format!("/usr/sbin/{program}");
    let name = if Path::new(&program_of_debian).exists() {
        program_of_debian.as_str()
    } else {
        program
    };
    let running = Running::start(Command::new(name).args(arguments).arg(&path), free)?;
    Some((running, free))
}

/// Two files through the proxy, whole and in part, over kept connections or new ones as the proxy likes.
fn assert_leads(scheme: &str, proxy: SocketAddr) {
    let server = server_with(2 << 20);
    let client = builder()
        .proxy(Proxy::parse(&format!("{scheme}://{proxy}")).unwrap())
        .build()
        .unwrap();
    for _ in 0..2 {
        let whole = fetch(&client, Request::get(url(&server, "/a.bin"))).unwrap();
        assert!(whole == pattern().range(0, 2 << 20));
    }
    let range = kithara::net::ByteRange::new(1_000_000, 1_000_100);
    let part = fetch(&client, Request::get(url(&server, "/a.bin")).range(range)).unwrap();
    assert_eq!(part, pattern().range(1_000_000, 100));
    // A host that is not there is the proxy's to tell.
    let gone = server_with(0);
    gone.stop();
    let error = fetch(&client, Request::get(url(&gone, "/"))).unwrap_err();
    let is_told = match &error {
        NetError::Status { status, .. } => matches!(status, 502..=504 | 500),
        NetError::Proxy { failure, .. } => matches!(failure, ProxyFailure::Socks(_)),
        _ => false,
    };
    assert!(is_told, "{error:?}");
}

#[test]
fn w20_squid_forwards() {
    let folder = tempfile::tempdir().unwrap();
    let config = |port: u16, folder: &str| {
        format!(
            "http_port 127.0.0.1:{port}\nhttp_access allow all\ncache deny all\npid_filename {folder}/pid\n\
             cache_log {folder}/log\naccess_log none\ncoredump_dir {folder}\nshutdown_lifetime 0 seconds\n\
             pinger_enable off\nnetdb_filename none\n"
        )
    };
    // `root` hands the logs over to another user: the folder has to be open to it.
    open_to_all(folder.path());
    if let Some((_running, addr)) = start("squid", folder.path(), &["-N", "-f"], config) {
        assert_leads("http", addr);
    }
}

#[test]
fn w20_tinyproxy_forwards() {
    let folder = tempfile::tempdir().unwrap();
    let config = |port: u16, _: &str| format!("Port {port}\nListen 127.0.0.1\nTimeout 60\nAllow 127.0.0.1\n");
    if let Some((_running, addr)) = start("tinyproxy", folder.path(), &["-d", "-c"], config) {
        assert_leads("http", addr);
    }
}

#[test]
fn w20_dante_connects_through() {
    let folder = tempfile::tempdir().unwrap();
    let config = |port: u16, folder: &str| {
        format!(
            "logoutput: {folder}/log\ninternal: 127.0.0.1 port = {port}\nexternal: lo\n\
             clientmethod: none\nsocksmethod: none\nuser.privileged: root\nuser.unprivileged: nobody\n\
             client pass {{\n from: 127.0.0.0/8 to: 0.0.0.0/0\n}}\n\
             socks pass {{\n from: 127.0.0.0/8 to: 0.0.0.0/0\n protocol: tcp\n command: connect\n}}\n"
        )
    };
    open_to_all(folder.path());
    if let Some((_running, addr)) = start("danted", folder.path(), &["-f"], config) {
        assert_leads("socks5", addr);
    }
}

fn open_to_all(folder: &Path) {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(folder, fs::Permissions::from_mode(0o777)).unwrap();
    }
}
