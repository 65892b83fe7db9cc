//! The judge: whether what a server sent is media.
//!
//! A network's login page, an error as JSON or an empty body comes with status 200 as well as a track does. Kept, it would
//! take the track's place for every later session. So each answer is judged before a byte of it is stored:
//!
//! ```text
//!   status ──▶ length ──▶ Content-Type ──▶ first bytes ──▶ the app's verdict
//!   200, 206   not 0      suspect or not   media, text,    has the last word
//!                                          page, picture…  on type and bytes
//! ```
//!
//! The bytes overrule the type: servers call a track `text/plain`, or nothing at all. Only what is recognised as something
//! else is refused. Junk before the first frame is not.

use std::borrow::Cow;
use std::{error, fmt, sync::Arc};

use bytes::Bytes;

use super::signature::{self, Signature};
use crate::net::{NetError, Response, Url, redacted};

/// Text of this length is no media. A page is recognised by its first bytes; plain text may be junk before a first frame.
const TEXT_LIMIT: usize = 16 * 1024;
/// Bytes to look at where the type is suspect, or where the app judges.
const LOOK: usize = 512;
/// The most bytes that an error quotes.
const QUOTED: usize = 64;

/// What a server sent, as far as it has come: what an app judges by. See [`Access::judge`](super::Access::judge).
#[non_exhaustive]
#[derive(Debug, Clone, Copy)]
pub struct Received<'a> {
    /// The URL that answered, after redirects.
    pub url: &'a Url,
    /// 200 or 206; 0 of what is local.
    pub status: u16,
    /// `Content-Type`, as sent.
    pub content_type: Option<&'a str>,
    /// Where the bytes belong in the file.
    pub position: u64,
    /// The first bytes of the body: commonly some hundred, all of them if the body is shorter. Empty where the bytes are
    /// from the middle of the file: they may look like anything.
    pub start: &'a [u8],
    /// What the crate takes it for. `None` for media.
    pub not_media: Option<NotMediaReason>,
}

/// An app's word on what a server sent.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is the file: it is played and kept.
    Media,
    /// It is something else: it is refused with [`NotMediaReason::App`].
    NotMedia,
}

/// Why what a server sent is no media.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotMediaReason {
    /// The status is neither 200 nor 206: no representation of the file (RFC 9110 section 15.3).
    Status,
    /// The body is empty.
    Empty,
    /// A web page or XML.
    Page,
    /// A playlist.
    Playlist,
    /// A picture.
    Picture,
    /// A document or an archive.
    Document,
    /// Text, such as JSON.
    Text,
    /// `Content-Type` names something else, and the bytes do not contradict it.
    ContentType,
    /// The app said so.
    App,
}

/// What came is no media. Nothing of it was kept.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotMedia {
    /// The URL that answered, redacted.
    pub url: String,
    /// What it is instead.
    pub reason: NotMediaReason,
    /// The status code; 0 of what is local.
    pub status: u16,
    /// `Content-Type`, as sent.
    pub content_type: Option<String>,
    /// How the body began, as far as it was looked at. At most 64 bytes.
    pub start: Bytes,
}

type Hook = dyn Fn(&Received<'_>) -> Verdict + Send + Sync;

/// The rules of one source: those of the crate, and the app's.
#[derive(Clone, Default)]
pub(crate) struct Judge {
    hook: Option<Arc<Hook>>,
}

/// An answer whose head is fit, and whose first bytes are being judged.
pub(crate) struct Candidate {
    judge: Judge,
    url: Url,
    status: u16,
    content_type: Option<String>,
    position: u64,
    start: Vec<u8>,
}

impl Judge {
    pub(crate) fn new(hook: impl Fn(&Received<'_>) -> Verdict + Send + Sync + 'static) -> Self {
        Self {
            hook: Some(Arc::new(hook)),
        }
    }

    /// What was judged before it was kept: it is media, whatever it looks like, unless it is empty.
    #[cfg(feature = "hls")]
    pub(crate) fn kept(url: &Url) -> Candidate {
        Self::new(|_| Verdict::Media).local(url, 0)
    }

    /// What no server sent: there is no head, and the bytes alone are judged.
    #[cfg(feature = "hls")]
    pub(crate) fn local(&self, url: &Url, position: u64) -> Candidate {
        Candidate {
            judge: self.clone(),
            url: url.clone(),
            status: 0,
            content_type: None,
            position,
            start: Vec::new(),
        }
    }

    /// Judges the head of a response, whose status the client has judged already. An announced length of zero is final; all
    /// else waits for the bytes.
    ///
    /// # Errors
    ///
    /// [`NotMedia`].
    pub(crate) fn head(&self, response: &Response, position: u64) -> Result<Candidate, NotMedia> {
        let header = response.headers().get("content-type");
        let candidate = Candidate {
            judge: self.clone(),
            url: response.url().clone(),
            status: response.status(),
            content_type: header.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()),
            position,
            start: Vec::new(),
        };
        if response.total_length() == Some(0) {
            return Err(candidate.refuse(NotMediaReason::Empty));
        }
        Ok(candidate)
    }
}

impl NotMedia {
    /// The refusal in an error of the client: a status of success that stands for no file.
    pub(crate) fn of_status(error: &NetError) -> Option<Self> {
        match error {
            NetError::Status {
                url,
                status: status @ 200..=299,
                content_type,
                ..
            } => Some(Self {
                url: url.clone(),
                reason: NotMediaReason::Status,
                status: *status,
                content_type: content_type.clone(),
                start: Bytes::new(),
            }),
            _ => None,
        }
    }
}

impl Candidate {
    /// Whether `Content-Type` names something else than media. The bytes may overrule it.
    pub(crate) fn is_suspect(&self) -> bool {
        self.content_type
            .as_deref()
            .is_some_and(signature::is_foreign_type)
    }

    /// Whether the bytes so far carry a signature that chance does not make. Bytes decrypted with a wrong key do not.
    #[cfg(feature = "hls")]
    pub(crate) fn is_known_format(&self) -> bool {
        signature::is_known_format(&self.start)
    }

    /// Judges by the type alone, where the bytes come from the middle of the file.
    ///
    /// # Errors
    ///
    /// [`NotMedia`].
    #[cfg(feature = "file")]
    pub(crate) fn judge_type(&self) -> Result<(), NotMedia> {
        if self.is_suspect() {
            self.ask_app(Some(NotMediaReason::ContentType))
        } else {
            Ok(())
        }
    }

    /// Takes the next bytes. `true` once they are media, `false` while they may be either.
    ///
    /// # Errors
    ///
    /// [`NotMedia`].
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<bool, NotMedia> {
        let room = TEXT_LIMIT.saturating_sub(self.start.len()).min(bytes.len());
        self.start
            .extend_from_slice(bytes.get(..room).unwrap_or_default());
        let is_full = self.start.len() >= TEXT_LIMIT;
        self.decide(is_full)
    }

    /// Judges what has come: no more follows.
    ///
    /// # Errors
    ///
    /// [`NotMedia`].
    pub(crate) fn finish(&self) -> Result<(), NotMedia> {
        self.decide(true).map(drop)
    }

    fn decide(&self, is_all: bool) -> Result<bool, NotMedia> {
        let Some(own) = self.own_verdict(is_all) else {
            return Ok(false);
        };
        // An app needs more than the four bytes that the crate may be content with.
        if self.judge.hook.is_some() && self.start.len() < LOOK && !is_all {
            return Ok(false);
        }
        self.ask_app(own.err()).map(|()| true)
    }

    /// The app's verdict, where it judges; else the crate's.
    fn ask_app(&self, own: Option<NotMediaReason>) -> Result<(), NotMedia> {
        // An empty body is no matter of taste: there is nothing to keep.
        let verdict = match &self.judge.hook {
            Some(hook) if own != Some(NotMediaReason::Empty) => hook(&Received {
                url: &self.url,
                status: self.status,
                content_type: self.content_type.as_deref(),
                position: self.position,
                start: &self.start,
                not_media: own,
            }),
            _ if own.is_none() => Verdict::Media,
            _ => Verdict::NotMedia,
        };
        match verdict {
            Verdict::Media => Ok(()),
            Verdict::NotMedia => Err(self.refuse(own.unwrap_or(NotMediaReason::App))),
        }
    }

    /// The crate's verdict; `None` while it is open.
    fn own_verdict(&self, is_all: bool) -> Option<Result<(), NotMediaReason>> {
        if self.start.is_empty() {
            return is_all.then_some(Err(NotMediaReason::Empty));
        }
        let is_suspect = self.is_suspect();
        let enough = is_all || (is_suspect && self.start.len() >= LOOK);
        match signature::of(&self.start, is_all) {
            Signature::Media => Some(Ok(())),
            Signature::Foreign(reason) => Some(Err(reason)),
            Signature::Text if enough => Some(Err(NotMediaReason::Text)),
            Signature::Binary if is_suspect && enough => Some(Err(NotMediaReason::ContentType)),
            Signature::Binary if !is_suspect => Some(Ok(())),
            Signature::Text | Signature::Binary => None,
        }
    }

    fn refuse(&self, reason: NotMediaReason) -> NotMedia {
        let quoted = self.start.len().min(QUOTED);
        NotMedia {
            url: redacted(&self.url),
            reason,
            status: self.status,
            content_type: self.content_type.clone(),
            start: Bytes::copy_from_slice(self.start.get(..quoted).unwrap_or_default()),
        }
    }
}

/// Shows no more than whether there is one: a hook has no text.
impl fmt::Debug for Judge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.hook.is_some() {
            "the app's"
        } else {
            "the crate's"
        })
    }
}

impl fmt::Display for NotMediaReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Status => "a status that stands for no file",
            Self::Empty => "an empty body",
            Self::Page => "a web page",
            Self::Playlist => "a playlist",
            Self::Picture => "a picture",
            Self::Document => "a document or an archive",
            Self::Text => "text",
            Self::ContentType => "something else by its type",
            Self::App => "refused by the app",
        })
    }
}

impl fmt::Display for NotMedia {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = self
            .content_type
            .as_deref()
            .map_or(Cow::Borrowed("no type"), |kind| {
                // A header may be of any length, and this is one line of a log.
                Cow::Owned(kind.chars().take(QUOTED).flat_map(char::escape_default).collect())
            });
        write!(f, "{}: not media but {} (", self.url, self.reason)?;
        if self.status != 0 {
            write!(f, "status {}, {kind}, ", self.status)?;
        }
        write!(f, "begins \"{}\")", self.start.escape_ascii())
    }
}

impl error::Error for NotMedia {}
