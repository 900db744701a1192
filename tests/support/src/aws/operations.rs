//! From a request to its answer: who asks, what for, and what is said. No I/O happens here.

use std::time::Duration;

use hyper::body::Bytes;
use hyper::{HeaderMap, Request};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::behaviour::{Behaviour, ExpiresAt, Fault, Operation};
use super::form::Form;
use super::replies::{self, Failure, Reply};
use super::signature::{Claim, header};
use super::state::{Credentials, State, later};
use super::{Call, Minted, Outcome, roles};

/// What the server does about a request.
#[derive(Debug)]
pub(super) enum Answer {
    Reply(Reply),
    Hang,
    Reset,
    Huge,
}

/// An answer, how long it takes, and what the service's clock says in it.
#[derive(Debug)]
pub(super) struct Decision {
    pub(super) answer: Answer,
    pub(super) delay: Duration,
    pub(super) date: Timestamp,
}

/// Decides on a request and records it. The whole answer is made on arrival, also if it is sent later.
pub(super) fn decide(state: &mut State, request: &Request<Bytes>, now: Timestamp) -> Decision {
    let form = Form::read(request.body());
    let Some(operation) = operation(request.headers(), &form) else {
        let failure = Failure::new(400, "UnknownOperationException", "The stub knows no such operation.");
        return Decision {
            answer: Answer::Reply(replies::json_failure(&failure)),
            delay: Duration::ZERO,
            date: now,
        };
    };
    let claim = Claim::of(request);
    let region = claim.as_ref().map(|claim| claim.region.clone());
    let mut behaviour = state.behaviour(operation, region.as_deref(), form.get("RoleArn"));
    behaviour.fault = behaviour.fault.filter(|fault| fault.concerns(operation));
    // Whether it is accepted or not: nobody may print it.
    state.keep_secret(form.get("WebIdentityToken").unwrap_or_default());
    let date = now.saturating_add(SignedDuration::from_secs(behaviour.date_skew)).unwrap_or(Timestamp::MAX);
    let asked =
        Asked { operation, form: &form, region: region.as_deref().unwrap_or("us-east-1"), date, behaviour };
    let answer = match authenticate(state, &asked, claim.as_ref(), request) {
        Ok(caller) => answer(state, &asked, caller.as_ref()),
        Err(failure) => asked.failure(&failure),
    };
    state.calls.push(Call {
        operation: operation.name().to_owned(),
        access_key: claim.map(|claim| claim.access_key),
        outcome: asked.outcome(&answer),
        region: region.clone(),
        at: now,
        role: form.get("RoleArn").map(str::to_owned),
        policy: form.get("Policy").map(str::to_owned),
        external_id: form.get("ExternalId").map(str::to_owned),
        session_name: form.get("RoleSessionName").map(str::to_owned),
        duration: form.get("DurationSeconds").and_then(|seconds| seconds.parse().ok()),
        tags: form.tags(),
    });
    Decision { answer, delay: asked.behaviour.delay, date }
}

/// A request as understood.
pub(super) struct Asked<'a> {
    pub(super) operation: Operation,
    pub(super) form: &'a Form,
    region: &'a str,
    pub(super) date: Timestamp,
    pub(super) behaviour: Behaviour,
}

impl Asked<'_> {
    fn failure(&self, failure: &Failure) -> Answer {
        Answer::Reply(match self.operation.service() {
            "sts" => replies::xml_failure(failure),
            _ => replies::json_failure(failure),
        })
    }

    fn outcome(&self, answer: &Answer) -> Outcome {
        match (answer, self.behaviour.fault) {
            (Answer::Hang, _) => Outcome::Fault(Fault::Hang),
            (Answer::Reset, _) => Outcome::Fault(Fault::Reset),
            (Answer::Huge, _) => Outcome::Fault(Fault::HugeBody),
            (Answer::Reply(Reply { status: 200, .. }), Some(fault))
                if fault == Fault::Garbage || self.operation.service() != "sts" =>
            {
                Outcome::Fault(fault)
            }
            (Answer::Reply(reply), _) => Outcome::Status(reply.status),
        }
    }

    /// The expiry as the reply tells it.
    pub(super) fn told(&self, expires: Timestamp) -> Option<Timestamp> {
        match self.behaviour.expires_at {
            ExpiresAt::FromLifetime => Some(expires),
            ExpiresAt::At(seconds) => Timestamp::from_second(seconds).ok(),
            ExpiresAt::Missing | ExpiresAt::Garbage => None,
        }
    }
}

fn operation(headers: &HeaderMap, form: &Form) -> Option<Operation> {
    match (header(headers, "x-amz-target"), form.get("Action")) {
        (Some("AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken"), _) => {
            Some(Operation::GetAuthorizationToken)
        }
        (Some("SpencerFrontendService.GetAuthorizationToken"), _) => {
            Some(Operation::GetPublicAuthorizationToken)
        }
        (None, Some("GetCallerIdentity")) => Some(Operation::GetCallerIdentity),
        (None, Some("AssumeRole")) => Some(Operation::AssumeRole),
        (None, Some("AssumeRoleWithWebIdentity")) => Some(Operation::AssumeRoleWithWebIdentity),
        _ => None,
    }
}

/// Who asks; nobody for the one operation that carries a web identity instead.
fn authenticate(
    state: &State,
    asked: &Asked<'_>,
    claim: Option<&Claim>,
    request: &Request<Bytes>,
) -> Result<Option<Credentials>, Failure> {
    if asked.operation == Operation::AssumeRoleWithWebIdentity {
        return roles::check_web_identity(state, asked.form).map(|()| None);
    }
    let service = asked.operation.service();
    // The same refusals have other names, and another status, in the older protocol of STS.
    let refuse = |json, xml, message: &str| {
        let (status, code) = if service == "sts" { (403, xml) } else { (400, json) };
        Err(Failure::new(status, code, message))
    };
    let unknown = || {
        let message = "The security token included in the request is invalid.";
        refuse("UnrecognizedClientException", "InvalidClientTokenId", message)
    };
    let wrong = |message: &str| refuse("InvalidSignatureException", "SignatureDoesNotMatch", message);
    let Some(claim) = claim else {
        let message = "Request is missing Authentication Token";
        return refuse("MissingAuthenticationTokenException", "MissingAuthenticationToken", message);
    };
    let Some(credentials) = state.credentials(&claim.access_key) else { return unknown() };
    if claim.service != service {
        return wrong(&format!("Credential should be scoped to correct service: '{service}'."));
    }
    // ECR Public has its endpoint in one region only, whatever region the caller is in.
    if asked.operation == Operation::GetPublicAuthorizationToken && claim.region != "us-east-1" {
        return wrong("Credential should be scoped to a valid region.");
    }
    if header(request.headers(), "x-amz-security-token") != credentials.session_token.as_deref() {
        return unknown();
    }
    if !claim.is_signed_with(credentials, request) {
        return wrong(
            "The request signature we calculated does not match the signature you provided. Check your AWS Secret \
             Access Key and signing method.",
        );
    }
    if credentials.expires.is_some_and(|expires| expires <= asked.date) {
        let message = "The security token included in the request is expired";
        return refuse("ExpiredTokenException", "ExpiredToken", message);
    }
    Ok(Some(credentials.clone()))
}

fn answer(state: &mut State, asked: &Asked<'_>, caller: Option<&Credentials>) -> Answer {
    if let Some(answer) = asked.behaviour.fault.and_then(|fault| faulty(asked, caller, fault)) {
        return answer;
    }
    let result = match (asked.operation, caller) {
        (Operation::AssumeRole | Operation::AssumeRoleWithWebIdentity, _) => roles::assume(state, asked),
        (Operation::GetCallerIdentity, Some(caller)) => {
            Ok(replies::xml_reply(asked.operation.name(), &replies::caller(caller)))
        }
        (_, Some(caller)) => Ok(replies::json_reply(&token(state, asked, caller))),
        (_, None) => unreachable!("only a web identity comes unsigned"),
    };
    result.map_or_else(|failure| asked.failure(&failure), Answer::Reply)
}

/// The answer of a fault, except for those that need a token first.
fn faulty(asked: &Asked<'_>, caller: Option<&Credentials>, fault: Fault) -> Option<Answer> {
    let fail = |status, code, message: &str| asked.failure(&Failure::new(status, code, message));
    let sts = asked.operation.service() == "sts";
    Some(match fault {
        Fault::Throttle => fail(400, if sts { "Throttling" } else { "ThrottlingException" }, "Rate exceeded"),
        Fault::ServerError => {
            fail(500, if sts { "InternalFailure" } else { "ServerException" }, "Something went wrong here.")
        }
        Fault::Unavailable => fail(503, "ServiceUnavailable", "Service Unavailable"),
        Fault::AccessDenied => {
            let (status, code) = if sts { (403, "AccessDenied") } else { (400, "AccessDeniedException") };
            let principal = caller.map_or("anonymous", |caller| &caller.principal.arn);
            let resource = asked.form.get("RoleArn").unwrap_or("*");
            let action = asked.operation.action();
            let message = format!(
                "User: {principal} is not authorized to perform: {action} on resource: {resource} because no \
                 identity-based policy allows the {action} action"
            );
            fail(status, code, &message)
        }
        Fault::SignatureExpired => {
            let (status, code) =
                if sts { (403, "SignatureDoesNotMatch") } else { (400, "InvalidSignatureException") };
            fail(status, code, "Signature expired: the time of the request is too far from the time here")
        }
        Fault::Hang => Answer::Hang,
        Fault::Reset => Answer::Reset,
        Fault::HugeBody => Answer::Huge,
        Fault::Garbage => {
            let body = "\u{1}<html>not what was asked for".to_owned();
            Answer::Reply(Reply { status: 200, content_type: "text/html", body })
        }
        Fault::PackedPolicyTooLarge | Fault::RegionDisabled | Fault::ExpiredWebIdentity => {
            let account = asked.form.get("RoleArn").and_then(|role| role.split(':').nth(4));
            asked.failure(&roles::failure(fault, account.unwrap_or_default())?)
        }
        Fault::BadToken | Fault::EmptyData => return None,
    })
}

/// The reply to `GetAuthorizationToken`, of ECR (a list) or ECR Public (an object).
fn token(state: &mut State, asked: &Asked<'_>, caller: &Credentials) -> Value {
    let public = asked.operation == Operation::GetPublicAuthorizationToken;
    if asked.behaviour.fault == Some(Fault::EmptyData) {
        return if public { json!({}) } else { json!({"authorizationData": []}) };
    }
    let expires = asked.told(later(asked.date, asked.behaviour.lifetime));
    let endpoint = (!public).then(|| {
        let suffix = replies::dns_suffix(asked.region);
        format!("https://{}.dkr.ecr.{}.{suffix}", caller.principal.account(), asked.region)
    });
    let token = if asked.behaviour.fault == Some(Fault::BadToken) {
        "%%% this is no base64 %%%".to_owned()
    } else {
        let password = asked.behaviour.password.clone().or_else(|| state.password_for(&caller.principal));
        state.mint(password, |password| Minted {
            password,
            region: asked.region.to_owned(),
            expires_at: expires,
            access_key: caller.access_key.clone(),
            principal: caller.principal.arn.clone(),
            role: caller.principal.role.clone(),
            policy: caller.principal.policy.clone(),
            public,
        })
    };
    let data = replies::authorization_data(&token, expires, asked.behaviour.expires_at, endpoint.as_deref());
    if public { json!({"authorizationData": data}) } else { json!({"authorizationData": [data]}) }
}
