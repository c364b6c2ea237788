//! An exchange that outlives the codec's interest in it.
//!
//! The codec drops the future when the client hangs up; an exchange that has begun may already
//! have spent money, so it goes on until it has settled. Each is one allocation, made once: it is
//! large, and moves to where it runs on by its address.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::Response;

use super::close;
use crate::body::{AnswerBody, Outgoing, Progress, note};
use crate::farewell::Farewell;
use crate::io::Verdict;
use crate::tracker::{InFlight, Tracker, UnderWay};

pub(super) type Answered = Result<Response<Outgoing>, Infallible>;

/// What tells whether an HTTP/1 connection ends with the answer under way.
#[derive(Clone)]
pub(super) struct Last {
    pub(super) verdict: Arc<Verdict>,
    pub(super) farewell: Farewell,
}

impl Last {
    /// The rest of the upload may never be read, and then the connection ends.
    fn is_this(&self) -> bool {
        self.verdict.mid_message() || self.farewell.is_said()
    }
}

/// One request's answer in the making, counted until the answer is sent.
pub(super) struct Detach<F: Future<Output = Response<AnswerBody>> + Send + 'static> {
    answer: Answer<F>,
    begun: bool,
    counted: Option<(InFlight, UnderWay)>,
    last: Option<Last>,
    tracker: Tracker,
}

enum Answer<F> {
    /// To a request that no exchange is made for.
    Refusal(Box<Response<AnswerBody>>),
    Exchange(Pin<Box<F>>),
    Given,
}

impl<F: Future<Output = Response<AnswerBody>> + Send + 'static> Detach<F> {
    /// Counts an exchange and lets it run on without its client.
    pub(super) fn exchange(exchange: Pin<Box<F>>, request: UnderWay, tracker: Tracker) -> Self {
        Self::new(Answer::Exchange(exchange), request, tracker)
    }

    /// Gives this answer.
    pub(super) fn refusal(
        refusal: Response<AnswerBody>,
        request: UnderWay,
        tracker: Tracker,
    ) -> Self {
        Self::new(Answer::Refusal(Box::new(refusal)), request, tracker)
    }

    fn new(answer: Answer<F>, request: UnderWay, tracker: Tracker) -> Self {
        Self {
            answer,
            begun: false,
            counted: Some((tracker.enter(), request)),
            last: None,
            tracker,
        }
    }

    /// Tells the client with the answer if there will be no other.
    pub(super) fn which_may_be(mut self, last: Last) -> Self {
        self.last = Some(last);
        self
    }
}

impl<F: Future<Output = Response<AnswerBody>> + Send + 'static> Future for Detach<F> {
    type Output = Answered;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answered> {
        let me = self.get_mut();
        let mut response = match &mut me.answer {
            Answer::Exchange(exchange) => {
                me.begun = true;
                ready!(exchange.as_mut().poll(cx))
            }
            Answer::Refusal(refusal) => {
                std::mem::replace(&mut **refusal, Response::new(AnswerBody::Empty))
            }
            Answer::Given => return Poll::Pending,
        };
        me.answer = Answer::Given;
        let Some((in_flight, request)) = me.counted.take() else {
            return Poll::Pending;
        };
        note(Progress::Gave);
        if me.last.as_ref().is_some_and(Last::is_this) {
            close(&mut response);
        }
        Poll::Ready(Ok(
            response.map(|body| Outgoing::new(body, in_flight, request))
        ))
    }
}

impl<F: Future<Output = Response<AnswerBody>> + Send + 'static> Drop for Detach<F> {
    fn drop(&mut self) {
        let answer = std::mem::replace(&mut self.answer, Answer::Given);
        if let Answer::Exchange(exchange) = answer
            && self.begun
        {
            let counted = self.counted.take();
            self.tracker.detach(async move {
                // The answer is dropped, and its relay drains.
                drop(exchange.await);
                drop(counted);
            });
        }
    }
}
