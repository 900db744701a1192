//! A user may have neither the controller's configuration nor its region. Then a plan with the defaults differs from the
//! controller's, and only the part of it that does not depend on them is shown.

use crate::core::EventReason;
use crate::core::plan::{DeleteReason, Plan, Step, WriteReason};
use crate::core::request::Problem;
use crate::core::request::annotations::{REGISTRIES, RENEW};

/// How much of the controller's settings is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Knowledge {
    /// Whether the configuration file of the controller is given.
    pub configuration: bool,
}

impl Knowledge {
    /// The plan without what would only follow from unknown settings.
    pub fn filter(self, mut plan: Plan) -> Plan {
        // A region that is unknown here may be known to the controller, whose Events would report it.
        plan.problems.retain(|problem| problem.reason != EventReason::RegionUnknown);
        if self.configuration {
            return plan;
        }
        plan.problems.retain(is_certain);
        let is_guess = match &plan.step {
            Step::Write(write) => matches!(
                write.reason,
                WriteReason::RequestChanged | WriteReason::ScopeChanged | WriteReason::StaticEntryChanged
            ),
            Step::Delete(deletion) => {
                !matches!(deletion.reason, DeleteReason::OptedOut | DeleteReason::Renamed)
            }
            Step::Idle(_) | Step::Replace(_) | Step::SetPullSecret(_) | Step::ListServiceAccounts => false,
        };
        if is_guess {
            plan.step = Step::Idle(None);
        }
        plan
    }
}

/// Whether a problem follows from the cluster alone.
fn is_certain(problem: &Problem) -> bool {
    match problem.reason {
        EventReason::InvalidAnnotation => [REGISTRIES, RENEW].contains(&&*problem.subject),
        EventReason::NotGranted | EventReason::RegionUnknown | EventReason::RemovalHeld => false,
        _ => true,
    }
}
