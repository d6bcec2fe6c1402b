//! What a person sees of long steps: a spinner on a terminal, plain lines everywhere else.

use std::io::IsTerminal;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// Steps that run at once have a line each.
static BARS: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);

/// Once a minute is enough to tell a log reader, and CI's silence alarm, that a step is alive.
const HEARTBEAT: Duration = Duration::from_secs(60);

pub fn note(line: &str) {
    eprintln!("{line}");
}

pub fn section(title: &str) {
    eprintln!("\n── {title}");
}

/// "0.4 s", "12 s", "3 min 05 s".
pub fn span(took: Duration) -> String {
    let seconds = took.as_secs();
    match seconds {
        0..10 => format!("{:.1} s", took.as_secs_f64()),
        10..60 => format!("{seconds} s"),
        _ => format!("{} min {:02} s", seconds / 60, seconds % 60),
    }
}

/// A step under way; dropping it clears the spinner.
pub struct Progress {
    title: String,
    bar: Option<ProgressBar>,
    started: Instant,
    beat: Instant,
}

impl Progress {
    pub fn start(title: &str) -> Self {
        Self::with(title, std::io::stderr().is_terminal())
    }

    /// Lines also on a terminal, because something else writes there meanwhile.
    pub fn plain(title: &str) -> Self {
        Self::with(title, false)
    }

    fn with(title: &str, spinner: bool) -> Self {
        let bar = spinner.then(|| {
            let bar = BARS.add(ProgressBar::new_spinner());
            if let Ok(style) = ProgressStyle::with_template("{spinner} {prefix} [{elapsed}] {wide_msg:.dim}")
            {
                bar.set_style(style);
            }
            bar.set_prefix(title.to_owned());
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        if bar.is_none() {
            eprintln!("  {title} ...");
        }
        let started = Instant::now();
        Self { title: title.to_owned(), bar, started, beat: started }
    }

    /// Shows the newest line of the step's output.
    pub fn line(&mut self, line: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(line.trim().to_owned());
        }
    }

    /// Called now and then while the step runs.
    pub fn alive(&mut self) {
        if self.bar.is_none() && self.beat.elapsed() >= HEARTBEAT {
            self.beat = Instant::now();
            eprintln!("  {}: still at it after {}", self.title, span(self.started.elapsed()));
        }
    }

    pub fn done(self) {
        let took = span(self.started.elapsed());
        let title = self.title.clone();
        drop(self);
        eprintln!("  {title}: done in {took}");
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_read_well() {
        assert_eq!(span(Duration::from_millis(420)), "0.4 s");
        assert_eq!(span(Duration::from_secs(59)), "59 s");
        assert_eq!(span(Duration::from_secs(185)), "3 min 05 s");
    }
}
