//! The thread that downloads beside the players: it asks for files and tracks, changes its mind, runs for a while and is dropped,
//! and plays offline what says that it is complete.
//!
//! The oracle: what `verify` calls complete plays offline to its end, without an error, and each byte is right. Nothing that others do
//! to the cache takes a download's bytes: it is pinned.

use std::error::Error;
use std::io::Read as _;
use std::time::Duration;

use futures_lite::future;
use kithara::cache::AssetCache;
use kithara::file::OpenMode;
use kithara::media::Access;
use kithara::net::{HttpClient, Url};
use kithara::offline::{DownloadInfo, DownloadRequest, Downloads, Kind, State};
use kithara::stream::StreamParams;

use crate::player::{CHANGING, FILES, MAX_BYTES, Right, Scene, TREES, chain, path, start_of};
use crate::published;
use crate::random::Random;

/// What all downloads may take: the rest is for what is played.
const BUDGET: u64 = MAX_BYTES / 2;
const STEPS: u64 = 10;

type Done = Result<(), Box<dyn Error>>;

pub(crate) struct Downloader<'a> {
    pub(crate) random: Random,
    pub(crate) cache: AssetCache,
    pub(crate) client: HttpClient,
    pub(crate) scene: &'a Scene,
}

impl Downloader<'_> {
    /// Says how each step ended, a line for each.
    pub(crate) fn run(mut self) {
        let access = Access::new(self.client.clone(), self.cache.clone());
        let parallel = 1 + self.random.below(4) as usize;
        let builder = Downloads::builder(access)
            .parallel(parallel)
            .max_bytes(BUDGET)
            .stall_limit(Duration::from_millis(200))
            .hls_params(|request, params| match published::of(request.url().path()) {
                Some(_) => params.entry_names(published::without_tokens()),
                None => params,
            });
        let downloads = match future::block_on(builder.open()) {
            Ok(downloads) => downloads,
            Err(error) => return println!("{}", chain(&error)),
        };
        for _ in 0..STEPS {
            let done = self.step(&downloads);
            println!(
                "{}",
                done.map_or_else(|error| chain(&*error), |()| "done".to_owned())
            );
        }
    }

    fn step(&mut self, downloads: &Downloads) -> Done {
        match self.random.below(8) {
            0 | 1 => self.add(downloads),
            2 | 3 if !self.scene.offline => self.fetch(downloads),
            4 => self.change(downloads),
            5 => future::block_on(downloads.list()).map(drop).map_err(Into::into),
            _ => self.play(downloads),
        }
    }

    fn request(&mut self) -> DownloadRequest {
        let url = |path: &str| self.scene.url(path);
        match self.random.below(4) {
            0 => DownloadRequest::hls(url(&start_of(
                TREES[self.random.below(TREES.len() as u64) as usize],
            ))),
            1 => DownloadRequest::hls(url(&published::TRACKS[self.random.below(2) as usize].path())),
            _ => DownloadRequest::file(url(&path(self.random.below(FILES.len() as u64) as usize))),
        }
    }

    fn add(&mut self, downloads: &Downloads) -> Done {
        let request = self.request();
        let request = match self.random.below(4) {
            0 => request.priority(1),
            1 => request.max_bytes(100_000 + self.random.below(2_000_000)),
            _ => request,
        };
        future::block_on(downloads.add(request))?;
        Ok(())
    }

    /// One of those that there are.
    fn any(&mut self, downloads: &Downloads) -> Result<Option<DownloadInfo>, Box<dyn Error>> {
        let mut infos = future::block_on(downloads.list())?;
        if infos.is_empty() {
            return Ok(None);
        }
        let at = self.random.below(infos.len() as u64) as usize;
        Ok(Some(infos.swap_remove(at)))
    }

    fn change(&mut self, downloads: &Downloads) -> Done {
        let Some(DownloadInfo { id, .. }) = self.any(downloads)? else {
            return Ok(());
        };
        future::block_on(async {
            match self.random.below(4) {
                0 => downloads.pause(&id).await,
                1 => downloads.remove(&id).await,
                2 => downloads.resume_all().await,
                _ => downloads.resume(&id).await,
            }
        })?;
        Ok(())
    }

    /// Runs for a moment, in which the app may change its mind.
    fn fetch(&mut self, downloads: &Downloads) -> Done {
        let moment = |random: &mut Random| Duration::from_millis(20 + random.below(300));
        future::block_on(async {
            let until = async {
                async_io::Timer::after(moment(&mut self.random)).await;
                if self.random.one_in(2) {
                    for info in downloads.list().await? {
                        match self.random.below(6) {
                            0 => downloads.pause(&info.id).await?,
                            1 => downloads.remove(&info.id).await?,
                            2 => downloads.resume(&info.id).await?,
                            _ => {}
                        }
                    }
                    async_io::Timer::after(moment(&mut self.random)).await;
                }
                Ok(())
            };
            future::or(downloads.run(), until).await
        })?;
        Ok(())
    }

    /// What is complete by its checksums plays without the network.
    fn play(&mut self, downloads: &Downloads) -> Done {
        let Some(info) = self.any(downloads)? else {
            return Ok(());
        };
        let stored = future::block_on(downloads.verify(&info.id, |_, _| ()))?;
        if !stored.is_complete() || info.state == State::Removing {
            return Ok(());
        }
        let played = match info.request.kind() {
            Kind::File => play_file(downloads, &info),
            _ => self.play_track(downloads, &info),
        };
        // Another source may find out that the server has a newer file, and that takes its place.
        let may_go = info.request.url().path() == path(CHANGING);
        if let Err(error) = played {
            assert!(
                may_go,
                "{info:?} is complete, and does not play: {}",
                chain(&*error)
            );
        }
        Ok(())
    }

    fn play_track(&mut self, downloads: &Downloads, info: &DownloadInfo) -> Done {
        let source = future::block_on(downloads.track(&info.id))?;
        let params = StreamParams::default().offline_mode(true);
        if let Some(track) = published::of(info.request.url().path()) {
            return published::listen(track, source, &params, &mut self.random);
        }
        let url: &Url = info.request.url();
        let tree = TREES.iter().find(|tree| url.path() == start_of(tree)).unwrap();
        let whole = std::fs::read(self.scene.references.join(tree))?;
        let mut bytes = Vec::new();
        let mut reader = future::block_on(source.open_reader(OpenMode::Offline))?;
        reader.read_to_end(&mut bytes)?;
        assert!(
            bytes == whole,
            "wrong bytes of {tree}: {} of {}",
            bytes.len(),
            whole.len()
        );
        Ok(())
    }
}

fn play_file(downloads: &Downloads, info: &DownloadInfo) -> Done {
    let index = (0..FILES.len()).find(|index| info.request.url().path() == path(*index));
    let mut right = Right::of_file(index.unwrap());
    let mut reader = future::block_on(downloads.file(&info.id)?.open_reader(OpenMode::Offline))?;
    let (mut at, mut buffer) = (0, vec![0; 70_000]);
    loop {
        match reader.read(&mut buffer)? {
            0 => break,
            count => {
                right.check(at, &buffer[..count]);
                at += count as u64;
            }
        }
    }
    right.check_end(at);
    Ok(())
}
