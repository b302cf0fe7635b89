//! The prefill leg of a request whose client speaks to prefill and decode instances itself. It is sent and read like
//! any request; when it is ok the decode leg follows, else the request has failed as its lead has.

use super::connection::Connection;
use super::stream::{Open, Stream};
use super::{Idle, Prepared};
use crate::measure::{Flag, Offset, Outcome, RequestRecord, TransportEnd};
use crate::wire::ServerTiming;
use std::sync::Arc;

/// How far the lead of a request has come.
#[derive(Default)]
pub(super) struct Led {
    under_way: bool,
    /// Head and body of what follows, where the answer made them.
    made: Option<Arc<Vec<u8>>>,
    /// How long the lead took, ms.
    took_ms: Option<f64>,
    /// Its record, if it failed: that of the request.
    failed: Option<Box<RequestRecord>>,
    /// Its connection, if it can carry another request.
    idle: Option<Idle>,
}

/// What the time of the lead is called among the times that a proxy tells of itself.
const PREFILL: &str = "prefill";

impl Led {
    pub(super) fn is_under_way(&self) -> bool {
        self.under_way
    }

    /// Where the leg that is under way goes.
    pub(super) fn place(&self, request: &Prepared) -> usize {
        request.lead.as_ref().filter(|_| self.under_way).map_or(request.place, |lead| lead.place)
    }

    /// What the lead's answer made, to be kept while it is written.
    pub(super) fn made(&self) -> Option<Arc<Vec<u8>>> {
        self.made.clone()
    }

    /// Head and body of the leg that is under way.
    pub(super) fn bytes<'a>(&self, request: &'a Prepared, made: Option<&'a Vec<u8>>) -> &'a [u8] {
        match &request.lead {
            Some(lead) if self.under_way => &lead.bytes,
            _ => made.unwrap_or(&request.bytes),
        }
    }

    /// Tells in the request's record what became of the lead, and gives its connection.
    pub(super) fn told(&mut self, record: &mut RequestRecord) -> Option<Idle> {
        if let Some(failed) = self.failed.take() {
            *record = *failed;
        }
        if let Some(took_ms) = self.took_ms {
            let timing = record.server_timing.get_or_insert_with(ServerTiming::default);
            timing.entry(PREFILL.to_owned()).or_insert(took_ms);
        }
        self.idle.take()
    }
}

impl Stream {
    /// Sends the lead and reads its answer. Gives what is open for the decode leg, or the end that the request came to.
    pub(super) async fn lead(
        &mut self,
        mut open: Option<Open>,
        sent: Offset,
    ) -> Result<Option<Open>, TransportEnd> {
        let second = open.as_mut().and_then(|open| open.second.take());
        let request = self.reading.take();
        self.led.under_way = true;
        self.reading = Some(self.new_reading(Some(sent)));
        let end = self.exchange(open, sent).await;
        // Whoever drops the stream before this has the lead's record.
        let Some(lead) = std::mem::replace(&mut self.reading, request) else { return Err(end) };
        let at = self.last_read.filter(|_| end == TransportEnd::Complete);
        let at = at.unwrap_or_else(|| self.shard.stamp_clock.now());
        let (shard, place) = (self.shard.number, self.led.place(&self.pass.requests[self.turn.index]));
        let reusable = end == TransportEnd::Complete && lead.reusable();
        let idle = self.connection.take().filter(|_| reusable);
        self.led.idle = idle.map(|connection: Connection| Idle { shard, place, connection });
        self.led.under_way = false;
        let body = lead.opening.clone();
        let mut record = lead.finish(end, at);
        if record.is_ok()
            && let Err(why) = self.follow(&body)
        {
            record.outcome = Outcome::ErrorIn200;
            record.error = Some(why);
        }
        if !record.is_ok() {
            record.error = Some(format!("prefill leg: {}", record.error.as_deref().unwrap_or("failed")));
            (record.output_tokens, record.events) = (0, Default::default());
            self.led.failed = Some(Box::new(record));
            return Err(end);
        }
        self.led.took_ms = Some(1e3 * at.seconds_since(sent));
        self.record().connected = record.connected;
        if record.has(Flag::StaleRetry) {
            self.record().flag(Flag::StaleRetry);
        }
        Ok(second.map(|connection| Open { connection, sent: None, written: 0, second: None }))
    }

    /// Makes the decode leg from the answer to the prefill leg.
    fn follow(&mut self, body: &[u8]) -> Result<(), String> {
        let pass = Arc::clone(&self.pass);
        let lead = pass.requests[self.turn.index].lead.as_ref();
        if let Some(then) = lead.and_then(|lead| lead.then.as_ref()) {
            self.led.made = Some(Arc::new(then(body)?));
        }
        Ok(())
    }
}
