//! The seats of one level, and who waits for them.
//!
//! Fair queuing by virtual time: each queue has a meter of the work that was dispatched from it, and the queue whose next
//! request would be finished first, were all queues served bit by bit in turn, goes first. A flow chooses the least busy of
//! a few queues that its hash deals it, so that a busy flow meets any other one in few of them.
//!
//! Every operation costs a look at the hand of a flow; only dispatching to those who wait looks at all queues.
//! Behaviour: `k8s.io/apiserver/pkg/util/flowcontrol/fairqueuing/queueset`.

use std::collections::VecDeque;

use super::estimate::SERVICE_SECONDS;
use super::{Demand, Shape, Usage, Work};

/// Requests that wait are known by a number.
type Number = u64;

/// The seats of a level. `T` is whatever wakes one who waits.
#[derive(Debug)]
pub struct QueueSet<T> {
    shape: Shape,
    limit: u64,
    queues: Vec<Queue<T>>,
    /// Virtual time, in seat-seconds.
    virtual_time: f64,
    /// That of the last dispatch.
    dispatched_at: f64,
    since: u64,
    turn: usize,
    enqueued: usize,
    /// Queues with anybody in them or served from them, and the seats those want.
    pub(super) active: usize,
    pub(super) wanted: u64,
    totals: Totals,
    next: Number,
    /// Seats in use and waited for, by periods.
    pub demand: Demand,
    /// How busy it was.
    usage: Usage,
    /// What a level without seats is measured by.
    otherwise: u64,
}

/// What is counted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Totals {
    /// Requests that wait.
    pub waiting: usize,
    /// Requests that are served.
    pub executing: usize,
    /// Seats that are taken.
    pub seats: u64,
    /// Seats that are waited for.
    pub seats_waiting: u64,
    /// Requests that were served.
    pub dispatched: u64,
    /// Requests that were refused.
    pub rejected: u64,
    /// Requests that waited for nothing.
    pub cancelled: u64,
}

#[derive(Debug)]
struct Queue<T> {
    waiting: VecDeque<Waiting<T>>,
    executing: usize,
    seats: u64,
    seats_waiting: u64,
    work_waiting: f64,
    /// The virtual time at which the next request starts.
    next: f64,
}

#[derive(Debug)]
struct Waiting<T> {
    number: Number,
    work: Work,
    arrived: f64,
    waker: T,
}

/// A request that is served, for the end of it.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    queue: Option<usize>,
    work: Work,
    started: u64,
}

impl Place {
    /// The queue that it came from; none where there are no queues.
    pub fn queue(&self) -> Option<usize> {
        self.queue
    }
}

/// What becomes of a request.
#[derive(Debug)]
pub enum Start {
    /// It is served.
    Execute(Place),
    /// It waits in this queue under this number.
    Wait(usize, Number),
    /// It is refused, and why.
    Reject(&'static str),
}

/// Somebody whose wait is over.
#[derive(Debug)]
pub struct Outcome<T> {
    /// What wakes him.
    pub waker: T,
    /// Where he is served.
    pub place: Place,
}

/// What the end of a request brings.
#[derive(Debug)]
pub struct Released<T> {
    /// Those who are served now.
    pub woken: Vec<Outcome<T>>,
    /// The seats stay taken for so many nanoseconds, until [`QueueSet::release`].
    pub lingers: Option<u64>,
}

impl<T> Queue<T> {
    fn new() -> Self {
        Self {
            waiting: VecDeque::new(),
            executing: 0,
            seats: 0,
            seats_waiting: 0,
            work_waiting: 0.0,
            next: 0.0,
        }
    }

    fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.executing == 0
    }

    /// Nobody is dispatched before he came.
    fn bound(&mut self) {
        if let Some(oldest) = self.waiting.front() {
            self.next = self.next.max(oldest.arrived);
        }
    }

    fn left(&mut self, gone: &Waiting<T>) {
        self.seats_waiting -= gone.work.most();
        self.work_waiting -= gone.work.total();
        if self.waiting.is_empty() {
            // Sums of fractions never come back to nothing by themselves.
            self.work_waiting = 0.0;
        }
    }
}

impl<T> QueueSet<T> {
    /// Of this shape, with so many seats.
    pub fn new(shape: Shape, limit: u64, nanos: u64) -> Self {
        let mut set = Self {
            shape,
            limit,
            queues: Vec::new(),
            virtual_time: 0.0,
            dispatched_at: 0.0,
            since: nanos,
            turn: 0,
            enqueued: 0,
            active: 0,
            wanted: 0,
            totals: Totals::default(),
            next: 0,
            demand: Demand::starting(nanos),
            usage: Usage::new(nanos),
            otherwise: 1,
        };
        set.usage.measure_by(shape, limit, set.otherwise);
        set.grow();
        set
    }

    /// While it has no seats of its own, what is used is measured by so many.
    pub fn measured_by(mut self, seats: u64) -> Self {
        self.otherwise = seats;
        self.usage.measure_by(self.shape, self.limit, seats);
        self
    }

    /// How busy it was until now.
    pub fn usage(&mut self, nanos: u64) -> Usage {
        self.usage.note(nanos, &self.totals);
        self.usage.clone()
    }

    fn grow(&mut self) {
        if let Shape::Queue { queues, .. } = self.shape {
            // Those that are too many run empty.
            let all = self.queues.len().max(queues);
            self.queues.resize_with(all, Queue::new);
        }
    }

    /// From now on it is of this shape and has so many seats; gives those who are served now.
    pub fn configure(&mut self, shape: Shape, limit: u64, nanos: u64) -> Vec<Outcome<T>> {
        self.pass(nanos);
        self.shape = shape;
        self.limit = limit;
        self.grow();
        self.usage.measure_by(shape, limit, self.otherwise);
        self.usage.note(nanos, &self.totals);
        self.dispatch(nanos)
    }

    /// What is counted.
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// The seats of the moment.
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// The virtual time of the last event.
    pub fn virtual_time(&self) -> f64 {
        self.virtual_time
    }

    /// The virtual time at which somebody was served last.
    pub fn dispatched_at(&self) -> f64 {
        self.dispatched_at
    }

    /// For each queue: requests that wait, requests that are served, seats in use, next start, seats and work waited for.
    pub fn describe(&self) -> impl Iterator<Item = (usize, usize, u64, f64, u64, f64)> {
        self.queues.iter().map(|q| {
            let waiting = q.waiting.len();
            (
                waiting,
                q.executing,
                q.seats,
                q.next,
                q.seats_waiting,
                q.work_waiting,
            )
        })
    }

    /// Those who wait: queue, place in it, work and what wakes them.
    pub fn waiting(&self) -> impl Iterator<Item = (usize, usize, Work, &T)> {
        let all = self.queues.iter().enumerate();
        all.flat_map(|(at, queue)| {
            let waiting = queue.waiting.iter().enumerate();
            waiting.map(move |(i, w)| (at, i, w.work, &w.waker))
        })
    }

    /// Lets virtual time pass: the faster the more seats are used, the slower the more queues share them.
    fn pass(&mut self, nanos: u64) {
        let passed = nanos.saturating_sub(self.since);
        self.since = self.since.max(nanos);
        if self.active > 0 {
            let rate = self.wanted.min(self.limit) as f64 / self.active as f64;
            self.virtual_time += rate * passed as f64 / 1e9;
        }
    }

    fn note(&mut self, nanos: u64) {
        let seats = self.totals.seats + self.totals.seats_waiting;
        self.demand.set(nanos, seats as f64);
        self.usage.note(nanos, &self.totals);
    }

    /// A request comes, of a flow with this hash.
    pub fn start(&mut self, nanos: u64, work: Work, hash: u64, waker: impl FnOnce() -> T) -> Start {
        self.pass(nanos);
        let (queues, hand, length) = match self.shape {
            Shape::Exempt => return Start::Execute(self.take_seats(nanos, work, None)),
            Shape::Reject if self.fits(work.most()) => {
                return Start::Execute(self.take_seats(nanos, work, None));
            }
            Shape::Reject => {
                self.totals.rejected += 1;
                return Start::Reject("concurrency-limit");
            }
            Shape::Queue {
                queues,
                hand,
                length,
            } => (queues, hand, length),
        };
        let at = self.choose(hash, queues, hand);
        if self.totals.seats >= self.limit && self.queues[at].waiting.len() >= length {
            self.totals.rejected += 1;
            return Start::Reject("queue-full");
        }
        if self.queues[at].is_idle() {
            self.queues[at].next = self.virtual_time;
        }
        // Who comes when nobody waits and there is room is served as if he had waited no time at all.
        if self.totals.waiting == 0 && self.fits(work.most()) {
            return Start::Execute(self.take_seats(nanos, work, Some(at)));
        }
        self.next += 1;
        let number = self.next;
        let queue = &mut self.queues[at];
        self.active += usize::from(queue.is_idle());
        queue.waiting.push_back(Waiting {
            number,
            work,
            arrived: self.virtual_time,
            waker: waker(),
        });
        queue.seats_waiting += work.most();
        queue.work_waiting += work.total();
        queue.bound();
        self.wanted += work.most();
        self.totals.waiting += 1;
        self.totals.seats_waiting += work.most();
        self.note(nanos);
        Start::Wait(at, number)
    }

    /// The least busy queue of a hand.
    fn choose(&mut self, hash: u64, queues: usize, hand: usize) -> usize {
        let mut cards = [0_usize; 16];
        let hand = hand.clamp(1, cards.len()).min(queues);
        deal(hash, queues, &mut cards[..hand]);
        let first = self.enqueued % hand;
        self.enqueued = self.enqueued.wrapping_add(1);
        let mut best = cards[first];
        for i in 1..hand {
            let card = cards[(first + i) % hand];
            if self.queues[card].work_waiting < self.queues[best].work_waiting {
                best = card;
            }
        }
        best
    }

    fn fits(&self, seats: u64) -> bool {
        match seats > self.limit {
            // Who wants more than there is gets all of it.
            true => self.totals.executing == 0,
            false => self.totals.seats + seats <= self.limit,
        }
    }

    fn take_seats(&mut self, nanos: u64, work: Work, queue: Option<usize>) -> Place {
        let seats = work.most();
        self.totals.executing += 1;
        self.totals.dispatched += 1;
        self.totals.seats += seats;
        if let Some(at) = queue {
            self.dispatched_at = self.virtual_time;
            let queue = &mut self.queues[at];
            self.active += usize::from(queue.is_idle());
            queue.executing += 1;
            queue.seats += seats;
            queue.next += work.total();
            queue.bound();
            self.wanted += seats;
        }
        self.note(nanos);
        Place {
            queue,
            work,
            started: nanos,
        }
    }

    /// Serves those who wait, as far as there are seats.
    fn dispatch(&mut self, nanos: u64) -> Vec<Outcome<T>> {
        let mut woken = Vec::new();
        while self.totals.waiting > 0 && self.totals.seats < self.limit {
            let Some(at) = self.first_to_finish() else {
                break;
            };
            let oldest = self.queues[at].waiting.front();
            if !oldest.is_some_and(|w| self.fits(w.work.most())) {
                break;
            }
            let Some(gone) = self.queues[at].waiting.pop_front() else {
                break;
            };
            let was_alone = self.queues[at].is_idle();
            self.left(at, &gone);
            // Taking the seats counts the queue in again.
            self.active -= usize::from(was_alone);
            self.turn = at;
            let place = self.take_seats(nanos, gone.work, Some(at));
            woken.push(Outcome {
                waker: gone.waker,
                place,
            });
        }
        woken
    }

    fn left(&mut self, at: usize, gone: &Waiting<T>) {
        self.queues[at].left(gone);
        self.wanted -= gone.work.most();
        self.totals.waiting -= 1;
        self.totals.seats_waiting -= gone.work.most();
    }

    fn first_to_finish(&mut self) -> Option<usize> {
        let all = self.queues.len();
        let mut best: Option<(f64, usize)> = None;
        for i in 1..=all {
            let at = (self.turn + i) % all;
            let queue = &self.queues[at];
            let Some(oldest) = queue.waiting.front() else {
                continue;
            };
            let finish = queue.next + oldest.work.total();
            if best.is_none_or(|(least, _)| finish < least) {
                best = Some((finish, at));
            }
        }
        best.map(|(_, at)| at)
    }

    /// A request was served.
    pub fn finish(&mut self, nanos: u64, place: &Place) -> Released<T> {
        self.pass(nanos);
        self.totals.executing -= 1;
        if let Some(at) = place.queue {
            let took = nanos.saturating_sub(place.started) as f64 / 1e9;
            let queue = &mut self.queues[at];
            // Now it is known how long it took.
            queue.next -= place.work.seats as f64 * (SERVICE_SECONDS - took);
            queue.bound();
        }
        if place.work.after_nanos > 0 {
            self.note(nanos);
            return Released {
                woken: Vec::new(),
                lingers: Some(place.work.after_nanos),
            };
        }
        Released {
            woken: self.release(nanos, place),
            lingers: None,
        }
    }

    /// The seats of a request that was served are free.
    pub fn release(&mut self, nanos: u64, place: &Place) -> Vec<Outcome<T>> {
        self.pass(nanos);
        let seats = place.work.most();
        self.totals.seats -= seats;
        if let Some(at) = place.queue {
            let queue = &mut self.queues[at];
            queue.executing -= 1;
            queue.seats -= seats;
            self.wanted -= seats;
            self.active -= usize::from(queue.is_idle());
        }
        self.note(nanos);
        self.dispatch(nanos)
    }

    /// Somebody waits no more; false when his wait was over already.
    pub fn cancel(&mut self, nanos: u64, at: usize, number: Number) -> bool {
        self.pass(nanos);
        let Some(queue) = self.queues.get_mut(at) else {
            return false;
        };
        let Some(i) = queue.waiting.iter().position(|w| w.number == number) else {
            return false;
        };
        let Some(gone) = queue.waiting.remove(i) else {
            return false;
        };
        queue.bound();
        let idle = queue.is_idle();
        self.left(at, &gone);
        self.active -= usize::from(idle);
        self.totals.rejected += 1;
        self.totals.cancelled += 1;
        self.note(nanos);
        true
    }
}

/// Deals cards without a pair: the same for the same hash.
fn deal(hash: u64, deck: usize, hand: &mut [usize]) {
    let mut hash = hash;
    for i in 0..hand.len() {
        let left = (deck - i) as u64;
        let mut card = (hash % left) as usize;
        hash /= left;
        // Those that are dealt are skipped; they stand in order.
        let mut at = 0;
        while at < i && hand[at] <= card {
            card += 1;
            at += 1;
        }
        hand.copy_within(at..i, at + 1);
        hand[at] = card;
    }
}
