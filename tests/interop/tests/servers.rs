//! Files of real servers and through a real proxy, where they are installed: nginx (ranges, gzip, an account, redirects),
//! mitmproxy. Without them a line says so.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking, and says what it skips"
)]

use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::thread;

use futures_lite::future::block_on;
use kithara::cache::AssetCache;
use kithara::file::{FileParams, FileSource, OpenMode};
use kithara::net::{HttpClientBuilder, Proxy, Request, Url};
use kithara_interop::{Running, builder, fetch, free_port, pattern};

const LEN: usize = 3_000_000;

/// nginx with a file, the same file behind an account and behind redirects, and text that it compresses.
fn nginx(folder: &Path) -> Option<(Running, SocketAddr)> {
    let addr = free_port();
    let at = folder.display();
    fs::write(folder.join("a.bin"), pattern().range(0, LEN)).unwrap();
    fs::write(folder.join("list.m3u8"), "#EXTM3U\n".repeat(1000)).unwrap();
    // `user:secret`, as nginx reads it.
    fs::write(folder.join("accounts"), "user:{PLAIN}secret\n").unwrap();
    let config = format!(
        "daemon off;\nmaster_process off;\npid {at}/pid;\nerror_log {at}/log;\nevents {{}}\nhttp {{\n\
         access_log off;\nclient_body_temp_path {at}/1;\nproxy_temp_path {at}/2;\nfastcgi_temp_path {at}/3;\n\
         uwsgi_temp_path {at}/4;\nscgi_temp_path {at}/5;\ngzip on;\ngzip_types *;\ngzip_min_length 1;\n\
         server {{\nlisten {addr};\nroot {at};\n\
         location = /moved {{ return 302 /moved-again; }}\nlocation = /moved-again {{ return 301 /a.bin; }}\n\
         location = /plain.bin {{ alias {at}/a.bin; gzip off; }}\n\
         location = /private.bin {{ alias {at}/a.bin; gzip off; auth_basic x; auth_basic_user_file {at}/accounts; }}\n\
         }}\n}}\n"
    );
    let path = folder.join("nginx.conf");
    fs::write(&path, config).unwrap();
    let program = if Path::new("/usr/sbin/nginx").exists() {
        "/usr/sbin/nginx"
    } else {
        "nginx"
    };
    let running = Running::start(Command::new(program).arg("-c").arg(&path), addr)?;
    Some((running, addr))
}

/// Reads a file with jumps and to its end, and again with no request.
fn assert_plays(builder: HttpClientBuilder, url: &str) {
    let root = tempfile::tempdir().unwrap();
    let cache = AssetCache::builder(root.path()).open_blocking().unwrap();
    let params = FileParams::new(builder.build().unwrap(), cache);
    let source = FileSource::new(Url::parse(url).unwrap(), params);
    let mut parts = block_on(source.open_parts(OpenMode::Online)).unwrap();
    let driving = thread::spawn(move || block_on(parts.driver));
    for at in [2_000_000, 500_000, LEN as u64 - 1000] {
        let mut bytes = vec![0; 1000];
        parts.reader.seek(SeekFrom::Start(at)).unwrap();
        parts.reader.read_exact(&mut bytes).unwrap();
        assert_eq!(pattern().first_difference(at, &bytes), None, "{url}");
    }
    let whole = |reader: &mut kithara::file::FileReader| {
        let mut bytes = Vec::new();
        reader.seek(SeekFrom::Start(0)).unwrap();
        reader.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes.len(), LEN, "{url}");
        assert_eq!(pattern().first_difference(0, &bytes), None, "{url}");
    };
    whole(&mut parts.reader);
    driving.join().unwrap();
    drop(parts.reader);
    whole(&mut block_on(source.open_reader(OpenMode::Offline)).unwrap());
}

#[test]
fn files_of_nginx_play_and_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let Some((_running, addr)) = nginx(folder.path()) else {
        return;
    };
    assert_plays(builder(), &format!("http://{addr}/plain.bin"));
    // It compresses what asks for that: bytes of a file do not.
    assert_plays(builder(), &format!("http://{addr}/a.bin"));
    assert_plays(builder(), &format!("http://{addr}/moved"));
    assert_plays(builder(), &format!("http://user:secret@{addr}/private.bin"));
    let refused = Request::get(Url::parse(&format!("http://{addr}/private.bin")).unwrap());
    assert!(
        fetch(&builder().build().unwrap(), refused)
            .unwrap_err()
            .is_forbidden()
    );
    let list = Request::get(Url::parse(&format!("http://{addr}/list.m3u8")).unwrap());
    let text = fetch(&builder().build().unwrap(), list).unwrap();
    assert_eq!(text.len(), 8000);
}

#[test]
fn files_of_nginx_come_through_mitmproxy() {
    let folder = tempfile::tempdir().unwrap();
    let Some((_server, addr)) = nginx(folder.path()) else {
        return;
    };
    let proxy = free_port();
    let mut command = Command::new("mitmdump");
    command
        .args(["--quiet", "--listen-host", "127.0.0.1", "--listen-port"])
        .arg(proxy.port().to_string())
        .arg("--set")
        .arg(format!("confdir={}", folder.path().display()));
    let Some(_proxy) = Running::start(&mut command, proxy) else {
        return;
    };
    let through = || builder().proxy(Proxy::parse(&format!("http://{proxy}")).unwrap());
    assert_plays(through(), &format!("http://{addr}/plain.bin"));
    assert_plays(through(), &format!("http://{addr}/moved"));
    assert_plays(through(), &format!("http://user:secret@{addr}/private.bin"));
}
