//! Faults of single requests.

use std::time::Duration;

use http::Method;

use super::call::Call;

/// What happens to a request.
#[derive(Clone, Debug)]
pub enum Fault {
    /// The service executes it after this long, unless the client has gone.
    Slow(Duration),
    /// The service executes it at once and replies after this long.
    LateReply(Duration),
    /// The service neither executes it nor replies.
    Hang,
    /// The service executes it and does not reply.
    ReplyLost,
    /// The API server refuses it, with this many seconds in `Retry-After`.
    Refuse { code: u16, retry_after: Option<u32> },
}

/// Which requests have a fault, and how many of them.
#[derive(Clone, Debug)]
pub struct Rule {
    method: Option<Method>,
    path: &'static str,
    watch: Option<bool>,
    agent: &'static str,
    times: u32,
    fault: Fault,
}

impl Rule {
    /// Every request has the fault.
    pub fn all(fault: Fault) -> Self {
        Self { method: None, path: "", watch: None, agent: "", times: u32::MAX, fault }
    }

    /// Requests whose path ends with `path`.
    pub fn path(self, path: &'static str) -> Self {
        Self { path, ..self }
    }

    pub fn method(self, method: Method) -> Self {
        Self { method: Some(method), ..self }
    }

    /// Starts of watches, streamed lists among them.
    pub fn watches(self) -> Self {
        Self { watch: Some(true), ..self }
    }

    /// Anything else than the start of a watch.
    pub fn no_watches(self) -> Self {
        Self { watch: Some(false), ..self }
    }

    /// Requests of the process with this name.
    pub fn agent(self, agent: &'static str) -> Self {
        Self { agent, ..self }
    }

    /// Only the first requests.
    pub fn times(self, times: u32) -> Self {
        Self { times, ..self }
    }

    fn matches(&self, call: &Call) -> bool {
        self.times > 0
            && self.method.as_ref().is_none_or(|method| *method == call.method)
            && call.path.ends_with(self.path)
            && self.watch.is_none_or(|watch| watch == call.is_watch())
            && call.agent.contains(self.agent)
    }
}

/// The fault of a request by the first rule that matches.
pub fn fault(rules: &mut [Rule], call: &Call) -> Option<Fault> {
    let rule = rules.iter_mut().find(|rule| rule.matches(call))?;
    rule.times = if rule.times == u32::MAX { u32::MAX } else { rule.times - 1 };
    Some(rule.fault.clone())
}
