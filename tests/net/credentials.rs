//! N10: what proves who asks goes to the origin it was given for, and to no other.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use futures_lite::future;
use kithara::net::{
    ByteRange, HttpClient, NetError, Outgoing, Refused, Renewal, Renewing, Request, RequestHook, RetryPolicy,
    Url,
};
use kithara_test_support::{Rule, Server};

use crate::{builder, fetch, pattern, server_with, url};

/// `Basic` for `user:secret`.
const BASIC: &str = "Basic dXNlcjpzZWNyZXQ=";

fn with_credentials(mut url: Url) -> Url {
    url.set_username("user").unwrap();
    url.set_password(Some("secret")).unwrap();
    url
}

fn header(server: &Server, name: &str) -> Vec<Option<String>> {
    let requests = server.requests();
    let value = |request: &kithara_test_support::Recorded| request.header(name).map(str::to_owned);
    requests.iter().map(value).collect()
}

/// W16: a redirect within the origin, however it is written, keeps the credentials of the URL.
#[test]
fn w16_credentials_hold_within_their_origin() {
    for (name, location) in [
        ("relative", "/a.bin".to_owned()),
        ("written out", "http://{}/a.bin".to_owned()),
        ("without a scheme", "//{}/a.bin".to_owned()),
        ("over a second one", "http://{}/second".to_owned()),
    ] {
        let server = server_with(10);
        let location = location.replace("{}", &server.addr().to_string());
        server.rule("/feed", Rule::new().redirect(302, location));
        server.rule("/second", Rule::new().redirect(307, server.url("/a.bin")));
        let request = Request::get(with_credentials(url(&server, "/feed")));
        assert_eq!(fetch(&crate::client(), request).unwrap().len(), 10);
        let sent = header(&server, "authorization");
        assert!(
            sent.iter().all(|value| value.as_deref() == Some(BASIC)),
            "{name}: {sent:?}"
        );
    }
}

/// W16: and no other origin gets them, nor does the way back from one.
#[test]
fn w16_credentials_stay_behind_where_the_origin_is_left() {
    let (home, away) = (server_with(10), server_with(10));
    home.rule("/feed", Rule::new().redirect(302, away.url("/there")));
    away.rule("/there", Rule::new().redirect(302, home.url("/a.bin")));
    fetch(
        &crate::client(),
        Request::get(with_credentials(url(&home, "/feed"))),
    )
    .unwrap();
    assert_eq!(header(&home, "authorization"), [Some(BASIC.to_owned()), None]);
    assert_eq!(header(&away, "authorization"), [None]);
    // Unless the redirect brings some: then those, there.
    let mut location = url(&away, "/a.bin");
    location.set_username("guest").unwrap();
    home.rule("/other", Rule::new().redirect(302, location.as_str()));
    fetch(
        &crate::client(),
        Request::get(with_credentials(url(&home, "/other"))),
    )
    .unwrap();
    assert_eq!(
        header(&away, "authorization").last().unwrap().as_deref(),
        Some("Basic Z3Vlc3Q6")
    );
}

/// W17: a credential for every host that a playlist names is refused where it is given.
#[test]
fn w17_no_credential_is_client_wide() {
    for name in ["authorization", "Authorization", "Cookie", "proxy-authorization"] {
        let error = builder().header(name, "secret").build().unwrap_err();
        assert!(matches!(&error, NetError::ClientWideCredential { name: told } if told == name));
        let shown = format!("{error} {error:?} {:?}", builder().header(name, "secret"));
        assert!(!shown.contains("secret"), "{shown}");
    }
}

/// W17: an origin's header goes to that origin, also where a redirect leads there, and to no other.
#[test]
fn w17_an_origin_has_headers_of_its_own() {
    let (home, cdn) = (server_with(10), server_with(10));
    home.rule("/feed", Rule::new().redirect(302, cdn.url("/a.bin")));
    let client = builder()
        .header("x-program", "demo")
        .origin_header(&url(&home, "/"), "authorization", "home")
        .origin_header(&url(&cdn, "/whatever?query"), "authorization", "cdn")
        .build()
        .unwrap();
    for path in ["/a.bin", "/feed"] {
        fetch(&client, Request::get(url(&home, path))).unwrap();
    }
    let home_sent = header(&home, "authorization");
    assert!(
        home_sent.iter().all(|value| value.as_deref() == Some("home")),
        "{home_sent:?}"
    );
    assert_eq!(header(&cdn, "authorization"), [Some("cdn".to_owned())]);
    assert_eq!(header(&cdn, "x-program"), [None]);
    // A request's own goes before it.
    fetch(
        &client,
        Request::get(url(&home, "/a.bin")).header("authorization", "own"),
    )
    .unwrap();
    assert_eq!(
        header(&home, "authorization").last().unwrap().as_deref(),
        Some("own")
    );
    assert!(!format!("{client:?}").contains("\"home\""));
    assert!(matches!(
        builder().origin_header(&url(&home, "/"), "a b", "c").build(),
        Err(NetError::InvalidHeader { .. })
    ));
}

/// Signs with a number that grows, and renews what is refused as often as it is asked.
#[derive(Default)]
struct Signer {
    signed: AtomicUsize,
    refusals: Mutex<Vec<(u16, String)>>,
    /// What a refused request is sent once more with.
    renewal: Option<Renewal>,
}

struct Hook(Arc<Signer>);

impl RequestHook for Hook {
    fn sign(&self, outgoing: &mut Outgoing<'_>) {
        let number = self.0.signed.fetch_add(1, Ordering::SeqCst);
        let range = outgoing
            .headers()
            .get("range")
            .map(|range| range.to_str().unwrap().to_owned());
        outgoing.header("x-signature", &format!("{number} {}", range.unwrap_or_default()));
    }

    fn refused<'a>(&'a self, refused: Refused<'a>) -> Renewing<'a> {
        Box::pin(async move {
            // As a token's refresh does, it waits.
            future::yield_now().await;
            let challenge = refused.headers.get("www-authenticate");
            let challenge = challenge.map(|value| value.to_str().unwrap().to_owned());
            let mut refusals = self.0.refusals.lock().unwrap();
            refusals.push((refused.status, challenge.unwrap_or_default()));
            self.0.renewal.clone()
        })
    }
}

fn hooked(renewal: Option<Renewal>) -> (HttpClient, Arc<Signer>) {
    let signer = Arc::new(Signer {
        renewal,
        ..Signer::default()
    });
    let client = builder().hook(Hook(Arc::clone(&signer))).build().unwrap();
    (client, signer)
}

/// N10: each message is signed anew: redirects, tries, and the parts of a body that breaks off.
#[test]
fn n10_each_message_is_signed() {
    let server = server_with(100_000);
    server.rule("/from", Rule::new().redirect(302, "/a.bin"));
    server.rule("/a.bin", Rule::new().first(1).answer(503, ""));
    server.rule("/a.bin", Rule::new().first(1).truncate_after(50_000));
    let (client, signer) = hooked(None);
    let bytes = fetch(&client, Request::get(url(&server, "/from"))).unwrap();
    assert_eq!(bytes, pattern().range(0, 100_000));
    let sent: Vec<_> = header(&server, "x-signature").into_iter().flatten().collect();
    // The message of a kept connection that died is made anew as well, and never arrives.
    assert_eq!(sent.len(), server.requests().len());
    assert!(
        sent.iter()
            .all(|signature| sent.iter().filter(|other| *other == signature).count() == 1)
    );
    assert!(sent.last().unwrap().ends_with("bytes=50000-"), "{sent:?}");
    assert!(signer.refusals.lock().unwrap().is_empty());
}

/// N10: a signer that sets what it may not is told, and nothing goes out.
#[test]
fn n10_a_signature_may_not_touch_the_range() {
    struct Wrong;
    impl RequestHook for Wrong {
        fn sign(&self, outgoing: &mut Outgoing<'_>) {
            outgoing.header("Range", "bytes=0-1");
        }
    }
    let server = server_with(10);
    let client = builder().hook(Wrong).build().unwrap();
    let error = fetch(&client, Request::get(url(&server, "/a.bin"))).unwrap_err();
    assert!(matches!(error, NetError::InvalidHeader { name } if name == "Range"));
    assert_eq!(server.requests().len(), 0);
}

/// N10: asked once for a new header or a new URL.
#[test]
fn n10_a_refused_request_is_renewed_once() {
    for status in [401, 403] {
        for by_url in [false, true] {
            let server = server_with(1000);
            let renewal = if by_url {
                Renewal::new().url(url(&server, "/a.bin?token=new"))
            } else {
                Renewal::new().header("authorization", "new")
            };
            let refusal = Rule::new()
                .answer(status, "")
                .header("www-authenticate", "Bearer");
            let refused = server.rule("/a.bin", refusal.first(1));
            let (client, signer) = hooked(Some(renewal));
            let request = Request::get(url(&server, "/a.bin")).header("authorization", "old");
            assert_eq!(fetch(&client, request).unwrap(), pattern().range(0, 1000));
            assert_eq!(*signer.refusals.lock().unwrap(), [(status, "Bearer".to_owned())]);
            assert_eq!((refused.hits(), server.requests().len()), (1, 2));
            let last = server.requests().pop().unwrap();
            assert_eq!(last.path.ends_with("?token=new"), by_url);
            assert_eq!(
                last.header("authorization"),
                Some(if by_url { "old" } else { "new" })
            );
        }
    }
}

/// N10: what is refused again fails with the status, and a hook without an answer changes nothing.
#[test]
fn n10_a_hook_is_asked_once_and_may_have_no_answer() {
    let server = server_with(10);
    for (renewal, requests) in [(Some(Renewal::new()), 2), (None, 1)] {
        for (status, asked) in [(401, 1), (403, 1), (404, 0), (407, 0)] {
            let rule = server.rule("/a.bin", Rule::new().answer(status, ""));
            let (client, signer) = hooked(renewal.clone());
            let error = fetch(&client, Request::get(url(&server, "/a.bin"))).unwrap_err();
            assert_eq!(error.status(), Some(status));
            assert_eq!(signer.refusals.lock().unwrap().len(), asked);
            assert_eq!(rule.hits(), if asked == 1 { requests } else { 1 });
            rule.remove();
        }
    }
    // Nor is it asked at each of several tries.
    server.rule("/a.bin", Rule::new().first(1).answer(401, ""));
    server.rule("/a.bin", Rule::new().first(1).answer(503, ""));
    let last = server.rule("/a.bin", Rule::new().answer(401, ""));
    let (client, signer) = hooked(Some(Renewal::new()));
    fetch(&client, Request::get(url(&server, "/a.bin"))).unwrap_err();
    assert_eq!((signer.refusals.lock().unwrap().len(), last.hits()), (1, 1));
}

/// N10, W15: the hook comes before the way around a range, and there are never three requests for one.
#[test]
fn n10_a_renewed_request_is_not_sent_a_third_time() {
    let server = server_with(10);
    let rule = server.rule("/a.bin", Rule::new().answer(403, ""));
    for (renewal, requests) in [(Some(Renewal::new()), 2), (None, 2)] {
        let (client, _) = hooked(renewal);
        let before = rule.hits();
        let request = Request::get(url(&server, "/a.bin"));
        let request = request.range(ByteRange::from_start(0)).optional_range();
        fetch(&client, request).unwrap_err();
        assert_eq!(rule.hits() - before, requests);
    }
}

/// N10: a body that breaks off is resumed under the URL that was renewed.
#[test]
fn n10_a_body_goes_on_under_its_new_url() {
    let server = server_with(100_000);
    server.rule("/a.bin?token=new", Rule::new().first(1).truncate_after(50_000));
    server.rule("/a.bin?token=new", Rule::new());
    let old = server.rule("/a.bin", Rule::new().answer(403, ""));
    let (client, signer) = hooked(Some(Renewal::new().url(url(&server, "/a.bin?token=new"))));
    assert_eq!(
        fetch(&client, Request::get(url(&server, "/a.bin?token=old")))
            .unwrap()
            .len(),
        100_000
    );
    assert_eq!((old.hits(), signer.refusals.lock().unwrap().len()), (1, 1));
    // A URL that expires on the way is renewed there.
    let server = server_with(100_000);
    server.rule("/a.bin", Rule::new().first(1).truncate_after(50_000));
    server.rule("/a.bin?token=new", Rule::new());
    server.rule("/a.bin", Rule::new().answer(403, ""));
    let (client, signer) = hooked(Some(Renewal::new().url(url(&server, "/a.bin?token=new"))));
    assert_eq!(
        fetch(&client, Request::get(url(&server, "/a.bin"))).unwrap(),
        pattern().range(0, 100_000)
    );
    assert_eq!(signer.refusals.lock().unwrap().len(), 1);
}

/// N10: a renewed URL at another origin does not take the old one's headers along.
#[test]
fn n10_headers_stay_behind_when_a_new_url_leaves_the_origin() {
    let (home, away) = (server_with(10), server_with(10));
    home.rule("/a.bin", Rule::new().answer(403, ""));
    let renewal = Renewal::new().url(url(&away, "/a.bin")).header("x-token", "new");
    let (client, _) = hooked(Some(renewal));
    let request = Request::get(with_credentials(url(&home, "/a.bin"))).header("cookie", "secret");
    assert_eq!(fetch(&client, request).unwrap().len(), 10);
    let there = away.requests().pop().unwrap();
    assert_eq!(
        (there.header("cookie"), there.header("authorization")),
        (None, None)
    );
    assert_eq!(there.header("x-token"), Some("new"));
}

/// N5, N10: a request that is dropped while the hook waits asks no more.
#[test]
fn n10_a_dropped_request_drops_the_hooks_wait() {
    struct Waits;
    impl RequestHook for Waits {
        fn refused<'a>(&'a self, _: Refused<'a>) -> Renewing<'a> {
            Box::pin(future::pending())
        }
    }
    let server = server_with(10);
    let rule = server.rule("/a.bin", Rule::new().answer(401, ""));
    let client = builder().hook(Waits).retry(RetryPolicy::none()).build().unwrap();
    let mut sending = Box::pin(client.send(Request::get(url(&server, "/a.bin"))));
    future::block_on(async {
        while rule.hits() == 0 {
            assert!(future::poll_once(&mut sending).await.is_none());
        }
    });
    drop(sending);
    assert_eq!(rule.hits(), 1);
}

/// W18: of a `data:` URL all may be the secret. It is shown as scheme and length.
#[test]
fn w18_a_data_url_is_shown_as_scheme_and_length() {
    for text in ["data:text/plain,secret", "data:;base64,c2VjcmV0", "data:secret"] {
        let url = Url::parse(text).unwrap();
        let shown = kithara::net::redacted(&url);
        assert_eq!(shown, format!("data: ({} bytes)", text.len()));
        let request = Request::get(url);
        let error = future::block_on(crate::client().send(request.clone())).unwrap_err();
        assert!(matches!(error, NetError::UnsupportedUrl { .. }), "{error:?}");
        let told = format!("{error} {error:?} {request:?}");
        assert!(!told.contains("secret") && !told.contains("c2V"), "{told}");
    }
}

/// C14: what a hook is shown of a request shows no secret either.
#[test]
fn c14_a_hook_that_logs_shows_no_secret() {
    struct Shows(Mutex<String>);
    struct Shared(Arc<Shows>);
    impl RequestHook for Shared {
        fn sign(&self, outgoing: &mut Outgoing<'_>) {
            self.0.0.lock().unwrap().extend([format!("{outgoing:?}")]);
        }
        fn refused<'a>(&'a self, refused: Refused<'a>) -> Renewing<'a> {
            self.0.0.lock().unwrap().extend([format!("{refused:?}")]);
            Box::pin(future::ready(None))
        }
    }
    let server = server_with(10);
    server.rule("/a.bin", Rule::new().answer(401, "").header("x-key", "secret"));
    let shows = Arc::new(Shows(Mutex::default()));
    let client = builder().hook(Shared(Arc::clone(&shows))).build().unwrap();
    let request = Request::get(with_credentials(url(&server, "/a.bin?secret"))).header("x-key", "secret");
    fetch(&client, request).unwrap_err();
    let told = shows.0.lock().unwrap();
    assert!(
        told.contains("/a.bin") && !told.contains("secret") && !told.contains(BASIC),
        "{told}"
    );
}
