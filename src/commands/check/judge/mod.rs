//! Facts → findings.

mod adoption;
mod aws;
mod cluster;
mod registries;
mod rights;
#[cfg(test)]
mod tests;

use super::facts::{ConfigurationFacts, Facts};
use super::finding::{Category, Finding, Link};

/// All findings, in the order of their categories.
pub fn judge(facts: &Facts) -> Vec<Finding> {
    let mut findings = configuration(facts);
    findings.extend(region(facts));
    findings.extend(cluster::judge(facts));
    findings.extend(aws::judge(facts));
    findings.sort_by_key(|finding| finding.category);
    // One role has a token for each endpoint.
    findings.dedup();
    findings
}

fn configuration(facts: &Facts) -> Vec<Finding> {
    let category = Category::Configuration;
    let found = match &facts.configuration {
        Ok(found) => found,
        Err(error) => {
            let remedy = "correct the field that the message names; the schema is docs/config.schema.json";
            return vec![Finding::failed(category, error, Link::Configuration, remedy)];
        }
    };
    let ConfigurationFacts { file, instance, secret_names, .. } = found;
    let file = file.as_deref().map_or("no file, so each field has its default".to_owned(), ToOwned::to_owned);
    let names = secret_names.join(", ");
    let mut findings = vec![Finding::ok(category, format!("{file}; instance {instance:?}, secrets {names}"))];
    if found.shares_controller {
        let message = "every namespace that opts in can get tokens with the controller's whole scope";
        let remedy = "give the controller a role that can only pull, or add identities with roles and set \
                      defaults.identity to \"none\"";
        let finding = Finding::warning(category, message, Link::SharedIdentity, remedy);
        // Without identities it is the documented default, which the program logs at its start.
        findings.push(if found.has_identities { finding } else { Finding { hint: None, ..skip(finding) } });
    }
    for identity in &found.unused_identities {
        let message = format!("identity {identity:?} is granted to no namespace");
        let remedy = format!("list namespaces under identities[].namespaces of {identity:?}, or remove it");
        findings.push(Finding::warning(category, message, Link::Identities, remedy));
    }
    findings
}

/// The finding as a note.
fn skip(finding: Finding) -> Finding {
    Finding { outcome: super::finding::Outcome::Skipped, ..finding }
}

fn region(facts: &Facts) -> Vec<Finding> {
    let category = Category::Region;
    vec![match &facts.region {
        Ok(Some(region)) => {
            Finding::ok(category, format!("{region}, in partition {}", region.partition().name()))
        }
        Ok(None) => Finding::failed(
            category,
            "the region is unknown, so account IDs and the word default cannot be served",
            Link::Region,
            "set AWS_REGION; in the chart: aws.region",
        ),
        Err(error) => {
            Finding::failed(category, error, Link::Region, "set AWS_REGION to a name such as eu-central-1")
        }
    }]
}
