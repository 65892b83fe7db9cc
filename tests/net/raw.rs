//! A server that answers with the very bytes a test gives it: heads that no well-behaved server sends.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use kithara::net::Url;

/// Answers each request and closes its connection.
pub(crate) struct Raw {
    url: Url,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Raw {
    /// `answer` makes the answer to a request's head.
    pub(crate) fn start(answer: impl Fn(&str) -> Vec<u8> + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = Url::parse(&format!("http://{}/a.bin", listener.local_addr().unwrap())).unwrap();
        let heads = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&heads);
        // Ends with the test's process: it waits for a connection.
        thread::spawn(move || {
            for mut client in listener.incoming().flatten() {
                let Some(head) = read_head(&mut client) else {
                    continue;
                };
                log.lock().unwrap().push(head.clone());
                // The client may have seen enough.
                drop(client.write_all(&answer(&head)));
            }
        });
        Self { url, heads }
    }

    /// The same bytes for each request.
    pub(crate) fn always(answer: impl AsRef<[u8]>) -> Self {
        let answer = answer.as_ref().to_vec();
        Self::start(move |_| answer.clone())
    }

    pub(crate) fn url(&self) -> Url {
        self.url.clone()
    }

    /// The heads of the requests so far.
    pub(crate) fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

/// The head of a request, with its empty line.
pub(crate) fn read_head(socket: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        socket.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    String::from_utf8(head).ok()
}

/// The value of a header in a head.
pub(crate) fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let fields = head.lines().filter_map(|line| line.split_once(": "));
    let mut found = fields.filter(|(key, _)| key.eq_ignore_ascii_case(name));
    found.next().map(|(_, value)| value)
}
