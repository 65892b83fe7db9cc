//! N11: proxies and cookies.

use kithara::net::{CookieJar, HttpClient, NetError, Proxy, ProxyFailure, Request, Url};
use kithara_test_support::{FakeProxy, ProxyPlan, Rule, Server};

use crate::{builder, fetch, pattern, server_with, url};

const LEN: usize = 2 << 20;

fn proxy(scheme: &str, credentials: &str, fake: &FakeProxy) -> Proxy {
    Proxy::parse(&format!("{scheme}://{credentials}{}", fake.addr())).unwrap()
}

fn through(proxy: Proxy) -> HttpClient {
    builder().proxy(proxy).build().unwrap()
}

/// A name that no resolver knows: the proxy has to.
fn music(path: &str) -> Request {
    Request::get(Url::parse(&format!("http://music.invalid{path}")).unwrap())
}

/// W20: plain HTTP is forwarded: the whole URL goes to the proxy, and its credentials go no further.
#[test]
fn w20_an_http_proxy_forwards() {
    let server = server_with(LEN);
    let fake = FakeProxy::http(ProxyPlan::to(server.addr()).credentials("user", "p@ss")).unwrap();
    let client = through(proxy("http", "user:p%40ss@", &fake));
    for _ in 0..2 {
        assert_eq!(
            fetch(&client, music("/a.bin?x=1")).unwrap(),
            pattern().range(0, LEN)
        );
    }
    assert_eq!(fake.seen(), ["GET http://music.invalid/a.bin?x=1"; 2]);
    for request in server.requests() {
        assert_eq!(request.header("host"), Some("music.invalid"));
        assert_eq!(
            (
                request.header("proxy-authorization"),
                request.header("authorization")
            ),
            (None, None)
        );
    }
}

/// W20: SOCKS 5, with a name, with an address, and with credentials.
#[test]
fn w20_a_socks_proxy_connects_through() {
    let server = server_with(LEN);
    for (scheme, credentials) in [("socks5", ""), ("socks5h", "user:p%40ss@")] {
        let plan = ProxyPlan::to(server.addr());
        let plan = match credentials {
            "" => plan,
            _ => plan.credentials("user", "p@ss"),
        };
        let fake = FakeProxy::socks5(plan).unwrap();
        let client = through(proxy(scheme, credentials, &fake));
        for _ in 0..2 {
            assert_eq!(fetch(&client, music("/a.bin")).unwrap(), pattern().range(0, LEN));
        }
        for address in ["http://192.0.2.1:81/a.bin", "http://[2001:db8::1]/a.bin"] {
            assert_eq!(
                fetch(&client, Request::get(Url::parse(address).unwrap()))
                    .unwrap()
                    .len(),
                LEN
            );
        }
        let seen = [
            "socks music.invalid:80",
            "socks 192.0.2.1:81",
            "socks 2001:db8::1:80",
        ];
        assert_eq!(
            fake.seen(),
            seen,
            "the second request found the first one's connection"
        );
    }
}

/// N11: what a proxy refuses is told, with the proxy's name, and without its password.
#[test]
fn n11_a_proxy_that_refuses_is_told() {
    let server = server_with(10);
    let plan = || ProxyPlan::to(server.addr());
    let socks = |plan: ProxyPlan| FakeProxy::socks5(plan).unwrap();
    let failure_of = |scheme: &str, credentials: &str, fake: &FakeProxy| {
        let client = through(proxy(scheme, credentials, fake));
        let error = fetch(&client, music("/a.bin")).unwrap_err();
        let told = format!("{error} {error:?}");
        assert!(!told.contains("secret"), "{told}");
        (error, fake.seen().len())
    };
    for (fake, code, transient) in [
        (socks(plan().refuse(2)), 2, false),
        (socks(plan().refuse(5)), 5, true),
        (socks(plan().refuse(8)), 8, false),
    ] {
        let (error, count) = failure_of("socks5", "", &fake);
        match &error {
            NetError::Proxy {
                failure: ProxyFailure::Socks(told),
                proxy,
                ..
            } => {
                assert_eq!(
                    (*told, proxy.as_str()),
                    (code, format!("socks5://{}", fake.addr()).as_str())
                );
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(
            (error.is_transient(), count),
            (transient, if transient { 6 } else { 1 })
        );
    }
    for (credentials, fake) in [
        ("", socks(plan().credentials("user", "secret"))),
        ("user:other-secret@", socks(plan().credentials("user", "secret"))),
    ] {
        let (error, _) = failure_of("socks5", credentials, &fake);
        assert!(
            matches!(
                error,
                NetError::Proxy {
                    failure: ProxyFailure::Credentials,
                    ..
                }
            ),
            "{error:?}"
        );
    }
    let (error, _) = failure_of("socks5", "", &socks(plan().garbage()));
    assert!(
        matches!(
            error,
            NetError::Proxy {
                failure: ProxyFailure::Protocol,
                ..
            }
        ),
        "{error:?}"
    );
    // What an HTTP proxy forwards, it answers itself. That is no word of the server's.
    let fake = FakeProxy::http(plan().credentials("user", "secret")).unwrap();
    let (error, _) = failure_of("http", "user:other-secret@", &fake);
    assert!(
        matches!(
            error,
            NetError::Proxy {
                failure: ProxyFailure::Status(407),
                ..
            }
        ),
        "{error:?}"
    );
}

/// W20: an interim answer to `CONNECT` is not the answer.
#[cfg(feature = "tls")]
#[test]
fn w20_a_proxy_may_hint_before_it_answers() {
    let fake =
        crate::raw::Raw::always("HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 403 No\r\n\r\n");
    let client = through(Proxy::parse(fake.url().as_str()).unwrap());
    let url = Url::parse("https://music.invalid/a.bin").unwrap();
    let error = fetch(&client, Request::get(url)).unwrap_err();
    assert!(
        matches!(
            error,
            NetError::Proxy {
                failure: ProxyFailure::Status(403),
                ..
            }
        ),
        "{error}"
    );
    assert_eq!(fake.heads().len(), 1);
}

/// N11: a proxy that is not there is not gone around.
#[test]
fn n11_a_proxy_that_is_away_is_not_passed_by() {
    let server = server_with(10);
    let away = server_with(0);
    away.stop();
    let proxy = Proxy::parse(&away.addr().to_string()).unwrap();
    let error = fetch(&through(proxy), Request::get(url(&server, "/a.bin"))).unwrap_err();
    assert!(
        matches!(
            error,
            NetError::Proxy {
                failure: ProxyFailure::Unreachable(_),
                ..
            }
        ),
        "{error:?}"
    );
    assert!(error.is_transient());
    assert_eq!(server.requests().len(), 0);
}

/// N11: hosts that the app excepts, and a client without any.
#[test]
fn n11_excepted_hosts_are_reached_directly() {
    let server = server_with(10);
    let fake = FakeProxy::http(ProxyPlan::to(server.addr())).unwrap();
    let proxy = proxy("http", "", &fake);
    for client in [
        builder().proxy(proxy.clone()).no_proxy("127.0.0.0/8"),
        builder().proxy(proxy).without_proxy(),
    ] {
        assert_eq!(
            fetch(&client.build().unwrap(), Request::get(url(&server, "/a.bin")))
                .unwrap()
                .len(),
            10
        );
    }
    assert_eq!(fake.seen().len(), 0);
}

/// W20: a server that lets in who brings its cookie back. Without a jar that was a circle.
#[test]
fn w20_a_cookie_opens_the_door_that_a_redirect_leads_back_to() {
    let server = server_with(1000);
    let gate = || {
        let to_login = Rule::new().first(1).redirect(302, "/login");
        server.rule("/a.bin", to_login);
        let back = Rule::new()
            .redirect(302, "/a.bin")
            .header("set-cookie", "session=secret; Path=/");
        server.rule("/login", back.first(1));
    };
    gate();
    let jar = CookieJar::new();
    let request = || Request::get(url(&server, "/a.bin")).cookies(jar.clone());
    assert_eq!(fetch(&crate::client(), request()).unwrap().len(), 1000);
    let sent = |server: &Server| {
        server
            .requests()
            .pop()
            .unwrap()
            .header("cookie")
            .map(str::to_owned)
    };
    assert_eq!(sent(&server).as_deref(), Some("session=secret"));
    // Another client with the same jar goes on, one without a jar has none, and one given on purpose goes before.
    fetch(&crate::client(), request()).unwrap();
    assert_eq!(sent(&server).as_deref(), Some("session=secret"));
    fetch(&crate::client(), Request::get(url(&server, "/a.bin"))).unwrap();
    assert_eq!(sent(&server), None);
    fetch(&crate::client(), request().header("cookie", "own=1")).unwrap();
    assert_eq!(sent(&server).as_deref(), Some("own=1; session=secret"));
    let other = server_with(10);
    fetch(
        &crate::client(),
        Request::get(url(&other, "/a.bin")).cookies(jar.clone()),
    )
    .unwrap();
    // Hosts make a cookie's scope, and not ports: both servers are one host.
    assert_eq!(sent(&other).as_deref(), Some("session=secret"));
    let shown = format!("{jar:?} {:?}", request());
    assert!(!shown.contains("secret"), "{shown}");
}

/// N11: what an error's page sets counts too, and a body's resume brings it back.
#[test]
fn n11_cookies_come_with_every_answer() {
    let server = server_with(1000);
    server.rule(
        "/a.bin",
        Rule::new().first(1).answer(503, "").header("set-cookie", "a=1"),
    );
    server.rule(
        "/a.bin",
        Rule::new()
            .first(1)
            .truncate_after(500)
            .header("set-cookie", "b=2"),
    );
    let request = Request::get(url(&server, "/a.bin")).cookies(CookieJar::new());
    assert_eq!(fetch(&crate::client(), request).unwrap().len(), 1000);
    let sent: Vec<_> = server
        .requests()
        .iter()
        .map(|r| r.header("cookie").map(str::to_owned))
        .collect();
    assert_eq!(sent, [None, Some("a=1".to_owned()), Some("a=1; b=2".to_owned())]);
}
