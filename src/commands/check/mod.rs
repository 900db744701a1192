//! `ecr-pull-secrets check`: whether the controller can work here, and the remedy if it cannot. Facts are gathered, then
//! judged, then printed.

mod facts;
mod finding;
mod gather;
mod judge;

use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, sleep};
use tracing::info;

use self::finding::{Category, Finding, Outcome};
use super::document::{API_VERSION, pretty};
use super::setup::{stop_on_signals, unless_stopped};
use super::table::{BAD, GOOD, MIDDLING, print_styled};
use super::{CommandError, print_line};
use crate::cli::diagnosis::{CheckArgs, CheckFormat};
use crate::core::counted;

/// The pause between two rounds of `--wait`.
const PAUSE: Duration = Duration::from_secs(5);

pub(super) async fn run(args: CheckArgs) -> Result<(), CommandError> {
    let stop = stop_on_signals()?;
    let findings = unless_stopped(&stop, async { Ok::<_, CommandError>(rounds(&args).await) }).await?;
    print(&findings, args.output);
    let failed = count(&findings, Outcome::Failed);
    match failed {
        0 => Ok(()),
        _ => Err(format!("{} failed; see the list above", counted(failed, "check")).into()),
    }
}

/// The findings of the first round without a failure, or of the last one.
async fn rounds(args: &CheckArgs) -> Vec<Finding> {
    let deadline = Instant::now() + args.wait.unwrap_or_default();
    loop {
        let findings = judge::judge(&Box::pin(gather::gather(args)).await);
        if count(&findings, Outcome::Failed) == 0 || Instant::now() >= deadline {
            return findings;
        }
        info!(failed = count(&findings, Outcome::Failed), "checks failed, repeating them");
        sleep(PAUSE).await;
    }
}

fn count(findings: &[Finding], outcome: Outcome) -> usize {
    findings.iter().filter(|finding| finding.outcome == outcome).count()
}

fn print(findings: &[Finding], format: Option<CheckFormat>) {
    match format {
        Some(CheckFormat::Json) => {
            let success = count(findings, Outcome::Failed) == 0;
            let kind = "CheckResult";
            print_line(pretty(&json!({
                "apiVersion": API_VERSION, "kind": kind, "success": success, "findings": findings,
            })));
        }
        Some(CheckFormat::Short) => {
            let is_bad = |finding: &&Finding| finding.hint.is_some();
            findings.iter().filter(is_bad).flat_map(lines).for_each(|line| print_styled(&line));
        }
        None => by_category(findings).iter().for_each(|line| print_styled(line)),
    }
}

/// The lines of all findings, with a heading for each category.
fn by_category(findings: &[Finding]) -> Vec<String> {
    let mut all: Vec<String> = vec![];
    let mut before: Option<Category> = None;
    for finding in findings {
        if before.replace(finding.category) != Some(finding.category) {
            if !all.is_empty() {
                all.push(String::new());
            }
            let heading = finding.category.into_str();
            all.push(heading.to_owned());
            all.push("-".repeat(heading.len()));
        }
        all.extend(lines(finding));
    }
    all.push(String::new());
    all.push(summary(count(findings, Outcome::Failed), count(findings, Outcome::Warning)));
    all
}

fn summary(failed: usize, warnings: usize) -> String {
    match (failed, counted(warnings, "warning")) {
        (0, _) if warnings == 0 => "All checks passed.".to_owned(),
        (0, warnings) => format!("All checks passed, with {warnings}."),
        (_, warnings) => format!("{} failed, {warnings}.", counted(failed, "check")),
    }
}

fn lines(finding: &Finding) -> Vec<String> {
    let (mark, style) = match finding.outcome {
        Outcome::Ok => ("√", GOOD),
        Outcome::Skipped => ("-", anstyle::Style::new()),
        Outcome::Warning => ("‼", MIDDLING),
        Outcome::Failed => ("×", BAD),
    };
    let mut lines = vec![format!("{style}{mark}{style:#} {}", finding.message)];
    if let Some(hint) = &finding.hint {
        lines.push(format!("    {}", hint.remedy));
        lines.push(format!("    see {}", hint.link));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_counts_failures_and_warnings() {
        assert_eq!(summary(0, 0), "All checks passed.");
        assert_eq!(summary(0, 1), "All checks passed, with 1 warning.");
        assert_eq!(summary(1, 0), "1 check failed, 0 warnings.");
        assert_eq!(summary(2, 2), "2 checks failed, 2 warnings.");
    }
}
