use super::body::ReplyBody;
use crate::cluster::Role;
use bytes::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};
use serde_json::{Value, json};

/// An answer to a client.
pub(super) type Reply = Response<ReplyBody>;

/// Which leg an answer or a fault is from.
pub(super) const LEG: HeaderName = HeaderName::from_static("x-pdbench-leg");
/// Which instance.
pub(super) const INSTANCE: HeaderName = HeaderName::from_static("x-pdbench-instance");

/// A fault of the proxy's own telling, in the shape of OpenAI's errors.
#[derive(Clone, Debug)]
pub(super) struct Problem {
    pub status: StatusCode,
    pub message: String,
    /// The leg that failed, and its instance.
    pub leg: Option<(Role, String)>,
}

impl Problem {
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), leg: None }
    }

    /// The client's fault.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// Nobody is there to do it.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, message)
    }

    /// The instance of a leg failed.
    pub fn of_leg(role: Role, instance: &str, status: StatusCode, what: &str) -> Self {
        let message = format!("{role} instance {instance}: {what}");
        Self { status, message, leg: Some((role, instance.to_owned())) }
    }

    fn kind(&self) -> &'static str {
        match self.status.as_u16() {
            401 | 403 => "PermissionDenied",
            404 => "NotFoundError",
            503 => "ServiceUnavailable",
            502 | 504 => "UpstreamError",
            500.. => "InternalServerError",
            _ => "BadRequestError",
        }
    }

    pub fn reply(self) -> Reply {
        let mut error = json!({
            "message": self.message, "type": self.kind(), "param": null, "code": self.status.as_u16(),
        });
        if let Some((role, instance)) = &self.leg {
            error["leg"] = json!(role);
            error["instance"] = json!(instance);
        }
        let mut reply = json_reply(self.status, &json!({ "error": error }));
        if let Some((role, instance)) = &self.leg {
            mark(&mut reply, *role, instance);
        }
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            reply.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        reply
    }
}

/// Says in the head which leg an answer is from.
pub(super) fn mark(reply: &mut Reply, role: Role, instance: &str) {
    let leg = HeaderValue::from_static(match role {
        Role::Prefill => "prefill",
        Role::Decode | Role::Mixed => "decode",
    });
    reply.headers_mut().insert(LEG, leg);
    if let Ok(instance) = HeaderValue::from_str(instance) {
        reply.headers_mut().insert(INSTANCE, instance);
    }
}

pub(super) fn json_reply(status: StatusCode, value: &Value) -> Reply {
    text_reply(status, "application/json", value.to_string())
}

pub(super) fn text_reply(status: StatusCode, content_type: &'static str, text: String) -> Reply {
    let mut reply = empty(status);
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    *reply.body_mut() = ReplyBody::whole(Bytes::from(text));
    reply
}

pub(super) fn empty(status: StatusCode) -> Reply {
    let mut reply = Response::new(ReplyBody::whole(Bytes::new()));
    *reply.status_mut() = status;
    reply
}
