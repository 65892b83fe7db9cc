//! What has arrived, and where the decoder is.

use indicatif::{ProgressBar, ProgressStyle};
use kithara::file::FileError;
use kithara::storage::StreamingResource;

use crate::Failure;

const CELLS: u64 = 48;

pub(crate) struct Bar {
    bar: ProgressBar,
    resource: StreamingResource<FileError>,
}

impl Bar {
    pub(crate) fn new(resource: &StreamingResource<FileError>) -> Result<Self, Failure> {
        let bar = ProgressBar::new(1);
        bar.set_style(ProgressStyle::with_template("{msg}")?);
        Ok(Self {
            bar,
            resource: resource.clone(),
        })
    }

    pub(crate) fn show(&self, seconds: f64) {
        let waits = !self.resource.status().stalled_at.is_empty();
        let stalled = if waits { " …" } else { "" };
        self.bar
            .set_message(format!("[{}] {seconds:.1} s{stalled}", self.picture()));
    }

    pub(crate) fn finish(self) {
        self.bar.finish();
        if !self.bar.is_hidden() {
            eprintln!();
        }
    }

    fn picture(&self) -> String {
        let len = self.resource.len().unwrap_or(0).max(CELLS);
        let (available, readers) = (self.resource.available(), self.resource.demand().positions);
        let cell = |cell: u64| {
            let (from, to) = (cell * len / CELLS, (cell + 1) * len / CELLS);
            if readers.iter().any(|at| (from..to).contains(at)) {
                '|'
            } else if available
                .iter()
                .any(|there| there.start <= from && to <= there.end)
            {
                '#'
            } else {
                '.'
            }
        };
        (0..CELLS).map(cell).collect()
    }
}
