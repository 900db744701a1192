//! The formats of `/metrics`: `OpenMetrics`, which the library writes, for clients that accept it, and the text format 0.0.4
//! for all others (<https://prometheus.io/docs/instrumenting/exposition_formats/>).

/// A text format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// 0.0.4, which every scraper reads.
    Text,
    OpenMetrics,
}

impl Format {
    /// The format for a client that sent this `Accept` header.
    pub fn accepted(accept: Option<&str>) -> Self {
        let accepts = accept.is_some_and(|accept| accept.contains("application/openmetrics-text"));
        if accepts { Self::OpenMetrics } else { Self::Text }
    }

    pub fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// Converts `OpenMetrics` to the text format 0.0.4. They differ in two ways for the metrics of this program: the metadata of a
/// counter has its name without `_total`, and the text ends with `# EOF`.
pub(super) fn text(open_metrics: &str) -> String {
    let lines: Vec<&str> = open_metrics.lines().collect();
    let mut out = String::with_capacity(open_metrics.len());
    for (place, line) in lines.iter().enumerate().filter(|(_, line)| **line != "# EOF") {
        // The HELP line of a metric precedes its TYPE line.
        let is_counter = |line: Option<&&str>| line.is_some_and(|line| type_of(line) == Some("counter"));
        let help = line.strip_prefix("# HELP ").and_then(|help| help.split_once(' '));
        match help {
            Some((name, help)) if is_counter(lines.get(place + 1)) => {
                out.extend(["# HELP ", name, "_total ", help]);
            }
            None if is_counter(Some(line)) => {
                out.extend([line.trim_end_matches(" counter"), "_total counter"]);
            }
            _ => out.push_str(line),
        }
        out.push('\n');
    }
    out
}

fn type_of(line: &str) -> Option<&str> {
    line.strip_prefix("# TYPE ")?.split_once(' ').map(|(_, kind)| kind)
}
