//! Medians, and lines `bar NAME figure=… limit=… ok|short`.

use std::time::Duration;

#[derive(Default)]
pub(crate) struct Report {
    pub(crate) short: usize,
}

impl Report {
    pub(crate) fn at_most(&mut self, name: &str, figure: f64, limit: f64, unit: &str) {
        self.bar(name, figure, limit, unit, figure <= limit);
    }

    pub(crate) fn at_least(&mut self, name: &str, figure: f64, limit: f64, unit: &str) {
        self.bar(name, figure, limit, unit, figure >= limit);
    }

    fn bar(&mut self, name: &str, figure: f64, limit: f64, unit: &str, ok: bool) {
        self.short += usize::from(!ok);
        let verdict = if ok { "ok" } else { "short" };
        println!("bar {name} figure={figure:.3}{unit} limit={limit:.3}{unit} {verdict}");
    }
}

pub(crate) fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// In milliseconds.
pub(crate) fn percentile(times: &mut [Duration], part: usize) -> f64 {
    times.sort_unstable();
    times[(times.len() * part / 100).min(times.len() - 1)].as_secs_f64() * 1e3
}

/// What the machine did beside this: the load of the last minute.
pub(crate) fn load() -> String {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split(' ').next().unwrap_or("unknown").to_owned()
}
