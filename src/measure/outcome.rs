use serde::{Deserialize, Serialize};

/// What became of a request: exactly one of these, told by [`Outcome::judge`] alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// A whole answer; the only outcome that enters latency statistics.
    Ok,
    /// The stream ended without a finish reason or `[DONE]`, or its framing was cut.
    Truncated,
    /// The server sent an error object or an `error` event inside the stream.
    StreamError,
    /// HTTP 200 whose body is an error, `null`, nothing, or no answer at all.
    #[serde(rename = "error_in_200")]
    ErrorIn200,
    /// An event whose data is not JSON.
    BadJson,
    /// An event whose data is not UTF-8.
    BadUtf8,
    /// A well-formed answer without a token.
    EmptyOutput,
    /// Fewer tokens than asked for although the end-of-sequence token was to be ignored.
    ShortOutput,
    /// Status 4xx other than 429.
    #[serde(rename = "http_4xx")]
    Http4xx,
    /// Status 429, too many requests.
    #[serde(rename = "http_429")]
    Http429,
    /// Status 5xx, or one that has no business here.
    #[serde(rename = "http_5xx")]
    Http5xx,
    /// The host name did not resolve.
    Dns,
    /// The connection was refused or the host not reached.
    ConnectRefused,
    /// The connection did not come about in time.
    ConnectTimeout,
    /// The TLS handshake failed.
    Tls,
    /// The connection was reset.
    Reset,
    /// A kept-alive connection was closed under the request, twice.
    StaleConn,
    /// No token in time.
    TimeoutFirstToken,
    /// Too long a silence in the stream.
    TimeoutIdle,
    /// The request as a whole took too long.
    TimeoutRequest,
    /// A head, an event or a body over its size limit.
    TooLarge,
    /// A content encoding that was not asked for.
    BadEncoding,
    /// Status 3xx; redirects are not followed.
    Redirect,
    /// This machine ran out of ports, descriptors or socket memory.
    ClientPorts,
    /// Still in flight when the run was ended; neither ok nor a failure.
    CancelledAtEnd,
    /// A fault of pdbench itself.
    Internal,
}

/// The phase in which a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndedIn {
    /// Waiting for its turn.
    Queue,
    /// Resolving the host name.
    Dns,
    /// Opening the connection.
    Connect,
    /// TLS handshake.
    Tls,
    /// Writing the request.
    Send,
    /// Waiting for the response head.
    Headers,
    /// Waiting for the first token: prefill and KV transfer.
    FirstToken,
    /// Between the first token and the end: decode.
    Stream,
    /// The whole response was read.
    End,
}

/// How the transport under a response ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransportEnd {
    /// The message is whole by its own framing, or ran to the close of a connection that delimits it.
    Complete,
    /// The connection closed before the message was whole.
    Cut,
    /// The connection was reset.
    Reset,
    /// The name did not resolve.
    Dns,
    /// Refused or unreachable.
    Refused,
    /// No connection in time.
    ConnectTimeout,
    /// TLS failed.
    Tls,
    /// A reused connection closed before any byte of the response.
    Stale,
    /// Ports, descriptors or socket memory of this machine ran out.
    ClientPorts,
    /// No token in time.
    FirstTokenTimeout,
    /// Silence in the stream.
    IdleTimeout,
    /// The whole request took too long.
    RequestTimeout,
    /// Over a size limit.
    TooLarge,
    /// The run ended first.
    Cancelled,
    /// A fault of ours.
    Internal,
}

/// The first thing that was wrong inside a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamFault {
    /// An error object or `error` event.
    Error,
    /// Data that is not JSON.
    Json,
    /// Data that is not UTF-8.
    Utf8,
}

/// What was seen in a response, as far as it came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamFacts {
    /// HTTP status, once the head was read.
    pub status: Option<u16>,
    /// The body came in an encoding that was not asked for.
    pub encoded: bool,
    /// The first fault inside the stream.
    pub fault: Option<StreamFault>,
    /// Events or a whole completion object were found in the body.
    pub answered: bool,
    /// Token events.
    pub token_events: u32,
    /// A finish reason was seen.
    pub finished: bool,
    /// `[DONE]` was seen.
    pub done: bool,
    /// Output tokens by the last usage object.
    pub usage_tokens: Option<u32>,
}

/// What the answer has to fulfil.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Output tokens asked for.
    pub requested_tokens: u32,
    /// The server was told to go on past the end-of-sequence token.
    pub ignore_eos: bool,
    /// A model may have nothing to say to a question.
    pub may_be_empty: bool,
}

impl Outcome {
    /// All outcomes, in the order in which reports list them.
    pub const ALL: [Outcome; 26] = [
        Outcome::Ok,
        Outcome::Truncated,
        Outcome::StreamError,
        Outcome::ErrorIn200,
        Outcome::BadJson,
        Outcome::BadUtf8,
        Outcome::EmptyOutput,
        Outcome::ShortOutput,
        Outcome::Http4xx,
        Outcome::Http429,
        Outcome::Http5xx,
        Outcome::Dns,
        Outcome::ConnectRefused,
        Outcome::ConnectTimeout,
        Outcome::Tls,
        Outcome::Reset,
        Outcome::StaleConn,
        Outcome::TimeoutFirstToken,
        Outcome::TimeoutIdle,
        Outcome::TimeoutRequest,
        Outcome::TooLarge,
        Outcome::BadEncoding,
        Outcome::Redirect,
        Outcome::ClientPorts,
        Outcome::CancelledAtEnd,
        Outcome::Internal,
    ];

    /// The one place where an outcome comes about.
    pub fn judge(end: TransportEnd, seen: &StreamFacts, rules: Rules) -> Outcome {
        let status = seen.status.unwrap_or(0);
        match end {
            TransportEnd::Internal => Outcome::Internal,
            TransportEnd::Cancelled => Outcome::CancelledAtEnd,
            TransportEnd::Dns => Outcome::Dns,
            TransportEnd::Refused => Outcome::ConnectRefused,
            TransportEnd::ConnectTimeout => Outcome::ConnectTimeout,
            TransportEnd::Tls => Outcome::Tls,
            TransportEnd::Stale => Outcome::StaleConn,
            TransportEnd::ClientPorts => Outcome::ClientPorts,
            _ if (300..400).contains(&status) => Outcome::Redirect,
            _ if status == 429 => Outcome::Http429,
            _ if (400..500).contains(&status) => Outcome::Http4xx,
            _ if status != 0 && !(200..300).contains(&status) => Outcome::Http5xx,
            TransportEnd::TooLarge => Outcome::TooLarge,
            _ if seen.encoded => Outcome::BadEncoding,
            _ if seen.fault == Some(StreamFault::Error) => Outcome::StreamError,
            _ if seen.fault == Some(StreamFault::Json) => Outcome::BadJson,
            _ if seen.fault == Some(StreamFault::Utf8) => Outcome::BadUtf8,
            // After [DONE] the answer is whole, whatever the connection does then.
            TransportEnd::Cut if !seen.done => Outcome::Truncated,
            TransportEnd::Reset if !seen.done => Outcome::Reset,
            TransportEnd::FirstTokenTimeout if !seen.done => Outcome::TimeoutFirstToken,
            TransportEnd::IdleTimeout if !seen.done => Outcome::TimeoutIdle,
            TransportEnd::RequestTimeout if !seen.done => Outcome::TimeoutRequest,
            _ => Self::judge_answer(seen, rules),
        }
    }

    /// The outcome of a response that arrived whole and without a fault.
    fn judge_answer(seen: &StreamFacts, rules: Rules) -> Outcome {
        let short = |tokens| rules.ignore_eos && tokens < rules.requested_tokens;
        if !seen.answered {
            Outcome::ErrorIn200
        } else if !rules.may_be_empty && seen.token_events == 0 && seen.usage_tokens.unwrap_or(0) == 0 {
            Outcome::EmptyOutput
        } else if !seen.done && !seen.finished {
            Outcome::Truncated
        } else if seen.usage_tokens.is_some_and(short) {
            Outcome::ShortOutput
        } else {
            Outcome::Ok
        }
    }

    /// True for everything that counts against the error budget.
    pub fn is_failure(self) -> bool {
        !matches!(self, Outcome::Ok | Outcome::CancelledAtEnd)
    }

    /// The word that files and tables use.
    pub fn word(self) -> &'static str {
        match self {
            Outcome::Ok => "ok",
            Outcome::Truncated => "truncated",
            Outcome::StreamError => "stream_error",
            Outcome::ErrorIn200 => "error_in_200",
            Outcome::BadJson => "bad_json",
            Outcome::BadUtf8 => "bad_utf8",
            Outcome::EmptyOutput => "empty_output",
            Outcome::ShortOutput => "short_output",
            Outcome::Http4xx => "http_4xx",
            Outcome::Http429 => "http_429",
            Outcome::Http5xx => "http_5xx",
            Outcome::Dns => "dns",
            Outcome::ConnectRefused => "connect_refused",
            Outcome::ConnectTimeout => "connect_timeout",
            Outcome::Tls => "tls",
            Outcome::Reset => "reset",
            Outcome::StaleConn => "stale_conn",
            Outcome::TimeoutFirstToken => "timeout_first_token",
            Outcome::TimeoutIdle => "timeout_idle",
            Outcome::TimeoutRequest => "timeout_request",
            Outcome::TooLarge => "too_large",
            Outcome::BadEncoding => "bad_encoding",
            Outcome::Redirect => "redirect",
            Outcome::ClientPorts => "client_ports",
            Outcome::CancelledAtEnd => "cancelled_at_end",
            Outcome::Internal => "internal",
        }
    }
}

impl EndedIn {
    /// The word that files and tables use.
    pub fn word(self) -> &'static str {
        match self {
            EndedIn::Queue => "queue",
            EndedIn::Dns => "dns",
            EndedIn::Connect => "connect",
            EndedIn::Tls => "tls",
            EndedIn::Send => "send",
            EndedIn::Headers => "headers",
            EndedIn::FirstToken => "first_token",
            EndedIn::Stream => "stream",
            EndedIn::End => "end",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: StreamFacts = StreamFacts {
        status: Some(200),
        encoded: false,
        fault: None,
        answered: true,
        token_events: 4,
        finished: true,
        done: true,
        usage_tokens: Some(4),
    };
    const RULES: Rules = Rules { requested_tokens: 4, ignore_eos: true, may_be_empty: false };

    #[test]
    fn every_outcome_is_serialised_as_its_word() {
        for outcome in Outcome::ALL {
            let json = serde_json::to_value(outcome).unwrap();
            assert_eq!(json, outcome.word());
        }
    }

    #[test]
    fn each_way_to_end_has_its_outcome() {
        use TransportEnd::{Complete, Cut, IdleTimeout, Reset, TooLarge};
        let none = StreamFacts { status: Some(200), ..Default::default() };
        let unfinished = StreamFacts { finished: false, done: false, usage_tokens: None, ..WHOLE };
        let status = |code| StreamFacts { status: Some(code), ..none };
        let table = [
            (Complete, WHOLE, Outcome::Ok),
            (Complete, StreamFacts { done: false, ..WHOLE }, Outcome::Ok),
            (Complete, StreamFacts { finished: false, ..WHOLE }, Outcome::Ok),
            (Complete, StreamFacts { usage_tokens: None, ..WHOLE }, Outcome::Ok),
            (Complete, StreamFacts { token_events: 0, ..WHOLE }, Outcome::Ok),
            (Complete, unfinished, Outcome::Truncated),
            (Cut, unfinished, Outcome::Truncated),
            (Cut, StreamFacts { done: false, ..WHOLE }, Outcome::Truncated),
            (Cut, WHOLE, Outcome::Ok),
            (Reset, unfinished, Outcome::Reset),
            (Reset, WHOLE, Outcome::Ok),
            (IdleTimeout, unfinished, Outcome::TimeoutIdle),
            (TooLarge, unfinished, Outcome::TooLarge),
            (Complete, StreamFacts { usage_tokens: Some(3), ..WHOLE }, Outcome::ShortOutput),
            (Complete, StreamFacts { usage_tokens: Some(0), token_events: 0, ..WHOLE }, Outcome::EmptyOutput),
            (Complete, StreamFacts { fault: Some(StreamFault::Error), ..WHOLE }, Outcome::StreamError),
            (Cut, StreamFacts { fault: Some(StreamFault::Json), ..unfinished }, Outcome::BadJson),
            (Complete, StreamFacts { encoded: true, ..none }, Outcome::BadEncoding),
            (Complete, none, Outcome::ErrorIn200),
            (Complete, status(302), Outcome::Redirect),
            (Complete, status(404), Outcome::Http4xx),
            (Cut, status(429), Outcome::Http429),
            (Complete, status(503), Outcome::Http5xx),
            (Reset, StreamFacts::default(), Outcome::Reset),
        ];
        for (end, seen, outcome) in table {
            assert_eq!(Outcome::judge(end, &seen, RULES), outcome, "{end:?} {seen:?}");
        }
    }
}
