//! The checker: does what clients were told fit one order of transactions, the store's own?
//!
//! Every transaction that changes something has a revision, so the order is not searched for but
//! given, and the check is exact and fast. The truth is the sequence of all changes by revision.
//! Laws:
//!
//! * A committed transaction stands in the truth under its revision, with exactly its changes; its
//!   conditions held on the state before, which is also what it was told as previous state.
//! * A transaction that failed did not hold on the state of the revision that it was told.
//! * A read shows exactly the state of the revision that it was told.
//! * Real time: nothing is told a revision smaller than one that somebody had been told before it
//!   was asked, and a commit gets a greater one. Nobody knows of a transaction that was not yet
//!   asked for.
//! * Nothing stands in the truth that nobody asked for, and what was refused does not. What got no
//!   answer may be there, once, or not.
//! * A watch yields what the truth has for it from its first revision on, in order, nothing twice
//!   and nothing left out; when it was resumed as well. A bookmark is true: everything up to it
//!   has been yielded.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bytes::Bytes;
use store::{Compare, KeyValue, Op, RangeEnd, Revision, Txn};

/// What one transaction did, by key; `None` is a removal.
pub type Changes = BTreeMap<Bytes, Option<Bytes>>;

/// A moment, in nanoseconds since the recording began.
pub type Moment = u64;

/// A transaction that a client asked for. Every value that is put is unique in the history.
#[derive(Clone, Debug)]
pub struct Asked {
    /// What was asked.
    pub txn: Txn,
    /// When it was asked.
    pub called: Moment,
    /// When the answer came.
    pub returned: Moment,
    /// The answer.
    pub outcome: Outcome,
}

/// What a client was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was carried out.
    Committed {
        /// Its revision.
        revision: Revision,
        /// The keys before it.
        previous: Vec<Option<KeyValue>>,
    },
    /// A condition did not hold.
    Failed {
        /// The revision of the state that was looked at.
        revision: Revision,
        /// The keys there.
        current: Vec<Option<KeyValue>>,
    },
    /// It was surely not carried out.
    Refused,
    /// No answer: it was carried out or not.
    Unknown,
}

/// A read of one key.
#[derive(Clone, Debug)]
pub struct Read {
    /// The key.
    pub key: Bytes,
    /// When it was asked.
    pub called: Moment,
    /// When the answer came.
    pub returned: Moment,
    /// The revision that was told.
    pub revision: Revision,
    /// The key's state that was told.
    pub found: Option<KeyValue>,
}

/// What a watch of a prefix yielded, resumed or not.
#[derive(Clone, Debug)]
pub struct Watched {
    /// The prefix.
    pub prefix: Bytes,
    /// The first revision asked for.
    pub from: Revision,
    /// What came, in the order in which it came.
    pub events: Vec<(Revision, Changes)>,
    /// A revision up to which all was said to be there, after so many events.
    pub bookmarks: Vec<(usize, Revision)>,
}

/// All that was recorded.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// The first revision of the truth; the state before it is empty.
    pub start: Revision,
    /// Transactions.
    pub asked: Vec<Asked>,
    /// Reads.
    pub reads: Vec<Read>,
    /// Watches.
    pub watches: Vec<Watched>,
    /// Every change there was, read from the store in the end.
    pub truth: BTreeMap<Revision, Changes>,
}

/// A key's state in the truth.
#[derive(Clone, Debug)]
struct Held {
    value: Option<Bytes>,
    revision: Revision,
}

/// The truth, made ready to be asked for any past state of a key.
struct Past<'a> {
    versions: HashMap<&'a Bytes, Vec<Held>>,
}

impl<'a> Past<'a> {
    fn new(truth: &'a BTreeMap<Revision, Changes>) -> Past<'a> {
        let mut versions: HashMap<&Bytes, Vec<Held>> = HashMap::new();
        for (revision, changes) in truth {
            for (key, value) in changes {
                versions.entry(key).or_default().push(Held {
                    value: value.clone(),
                    revision: *revision,
                });
            }
        }
        Past { versions }
    }

    fn at(&self, key: &Bytes, revision: Revision) -> Option<(&Bytes, Revision)> {
        let versions = self.versions.get(key)?;
        let newer = versions.partition_point(|held| held.revision <= revision);
        let held = versions[..newer].last()?;
        Some((held.value.as_ref()?, held.revision))
    }

    fn holds(&self, compare: &Compare, revision: Revision) -> bool {
        match compare {
            Compare::ModRevision { key, equals } => {
                self.at(key, revision).map_or(0, |(_, revision)| revision) == *equals
            }
            Compare::NotNewer {
                start,
                end,
                revision: limit,
            } => self
                .versions
                .keys()
                .filter(|key| end.contains(start, key))
                .all(|key| self.at(key, revision).is_none_or(|(_, at)| at <= *limit)),
        }
    }

    fn is(&self, key: &Bytes, revision: Revision, told: Option<&KeyValue>) -> bool {
        let told = told.map(|kv| (&kv.value, kv.mod_revision));
        self.at(key, revision) == told
    }
}

/// Checks all laws; the first one that is broken, in words.
pub fn check(history: &History) -> Result<(), String> {
    let past = Past::new(&history.truth);
    check_truth(history)?;
    for asked in &history.asked {
        check_asked(history, &past, asked)?;
    }
    for read in &history.reads {
        if !past.is(&read.key, read.revision, read.found.as_ref()) {
            return Err(format!("a read shows what was not there: {read:?}"));
        }
    }
    check_phantoms(history)?;
    check_real_time(history)?;
    history
        .watches
        .iter()
        .try_for_each(|watched| check_watch(history, watched))
}

fn check_truth(history: &History) -> Result<(), String> {
    let expected = history.start..;
    for (revision, expected) in history.truth.keys().zip(expected) {
        if *revision != expected {
            return Err(format!(
                "revision {revision} stands where {expected} should be"
            ));
        }
    }
    Ok(())
}

/// What a transaction changes when the state before it is known.
fn changes(past: &Past<'_>, txn: &Txn, before: Revision) -> Changes {
    let mut changes = Changes::new();
    for op in &txn.success {
        match op {
            Op::Put { key, value, .. } | Op::PutLeased { key, value, .. } => {
                changes.insert(key.clone(), Some(value.clone()));
            }
            Op::Delete { key } if past.at(key, before).is_some() => {
                changes.insert(key.clone(), None);
            }
            Op::Delete { .. } => {}
        }
    }
    changes
}

fn check_asked(history: &History, past: &Past<'_>, asked: &Asked) -> Result<(), String> {
    let wrong = |what: &str| Err(format!("{what}: {asked:?}"));
    match &asked.outcome {
        Outcome::Committed { revision, previous } => {
            let before = revision - 1;
            let right = changes(past, &asked.txn, before);
            if right.is_empty() {
                return Ok(());
            }
            match history.truth.get(revision) {
                None => return wrong("acknowledged and lost"),
                Some(there) if *there != right => {
                    return wrong("another change stands under the revision");
                }
                Some(_) => {}
            }
            let all = |compare: &Compare| past.holds(compare, before);
            if !asked.txn.compare.iter().all(all) {
                return wrong("committed although a condition did not hold");
            }
            for (op, told) in asked.txn.success.iter().zip(previous) {
                if !past.is(op.key(), before, told.as_ref()) {
                    return wrong("told a state before it that was not there");
                }
            }
            Ok(())
        }
        Outcome::Failed { revision, current } => {
            let all = |compare: &Compare| past.holds(compare, *revision);
            if asked.txn.compare.iter().all(all) {
                return wrong("failed although all conditions held");
            }
            for (key, told) in asked.txn.failure_read.iter().zip(current) {
                if !past.is(key, *revision, told.as_ref()) {
                    return wrong("told a state that was not there");
                }
            }
            Ok(())
        }
        Outcome::Refused | Outcome::Unknown => Ok(()),
    }
}

/// The values that a transaction puts: nobody else's.
fn marks(txn: &Txn) -> impl Iterator<Item = &Bytes> {
    txn.success.iter().filter_map(|op| match op {
        Op::Put { value, .. } | Op::PutLeased { value, .. } => Some(value),
        Op::Delete { .. } => None,
    })
}

fn check_phantoms(history: &History) -> Result<(), String> {
    let mut owners: HashMap<&Bytes, &Asked> = HashMap::new();
    for asked in &history.asked {
        owners.extend(marks(&asked.txn).map(|mark| (mark, asked)));
    }
    let mut seen = BTreeSet::new();
    for (revision, changes) in &history.truth {
        for value in changes.values().flatten() {
            let Some(owner) = owners.get(value) else {
                return Err(format!("nobody asked for {value:?} of revision {revision}"));
            };
            let right = match &owner.outcome {
                Outcome::Committed { revision: told, .. } => told == revision,
                Outcome::Unknown => true,
                Outcome::Failed { .. } | Outcome::Refused => false,
            };
            if !right {
                return Err(format!(
                    "carried out at {revision} against what was told: {owner:?}"
                ));
            }
            if !seen.insert(value) {
                return Err(format!("carried out twice, again at {revision}: {owner:?}"));
            }
        }
    }
    Ok(())
}

/// A client's knowledge of revisions: what it was told, and whether it made that one itself.
struct Told {
    called: Moment,
    returned: Moment,
    revision: Revision,
    own: bool,
}

fn check_real_time(history: &History) -> Result<(), String> {
    let mut told: Vec<Told> = history
        .asked
        .iter()
        .filter_map(|asked| {
            let (revision, own) = match &asked.outcome {
                Outcome::Committed { revision, .. } => {
                    let first = marks(&asked.txn).next();
                    let there = history.truth.get(revision);
                    let mut values = there.into_iter().flat_map(|c| c.values().flatten());
                    (*revision, values.any(|value| Some(value) == first))
                }
                Outcome::Failed { revision, .. } => (*revision, false),
                Outcome::Refused | Outcome::Unknown => return None,
            };
            Some(Told {
                called: asked.called,
                returned: asked.returned,
                revision,
                own,
            })
        })
        .chain(history.reads.iter().map(|read| Told {
            called: read.called,
            returned: read.returned,
            revision: read.revision,
            own: false,
        }))
        .collect();
    let asked_at: HashMap<Revision, Moment> = told
        .iter()
        .filter(|told| told.own)
        .map(|told| (told.revision, told.called))
        .collect();
    for one in &told {
        if asked_at
            .get(&one.revision)
            .is_some_and(|at| one.returned < *at)
        {
            return Err(format!("revision {} was known too early", one.revision));
        }
    }
    let mut returns: Vec<(Moment, Revision)> = told
        .iter()
        .map(|told| (told.returned, told.revision))
        .collect();
    returns.sort_unstable();
    told.sort_by_key(|told| told.called);
    let (mut known, mut next) = (0, 0);
    for one in &told {
        while next < returns.len() && returns[next].0 < one.called {
            known = known.max(returns[next].1);
            next += 1;
        }
        if one.revision < known || (one.own && one.revision == known) {
            return Err(format!(
                "told revision {} after {known} had been told to somebody",
                one.revision
            ));
        }
    }
    Ok(())
}

fn check_watch(history: &History, watched: &Watched) -> Result<(), String> {
    let wanted = |changes: &Changes| -> Changes {
        changes
            .iter()
            .filter(|(key, _)| RangeEnd::Prefix.contains(&watched.prefix, key))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect()
    };
    let mut right = history
        .truth
        .range(watched.from..)
        .map(|(revision, changes)| (*revision, wanted(changes)))
        .filter(|(_, changes)| !changes.is_empty());
    for (revision, changes) in &watched.events {
        match right.next() {
            Some((there, should)) if there == *revision && should == *changes => {}
            other => {
                return Err(format!(
                    "a watch of {:?} from {} yielded {revision}: {changes:?}, where {other:?} was next",
                    watched.prefix, watched.from
                ));
            }
        }
    }
    let touches = |changes: &Changes| !wanted(changes).is_empty();
    for (events, bookmark) in &watched.bookmarks {
        let after = match events.checked_sub(1) {
            Some(last) => watched.events[last].0 + 1,
            None => watched.from,
        };
        if after > *bookmark {
            continue;
        }
        let missed = history.truth.range(after..=*bookmark);
        if let Some((revision, _)) = missed.into_iter().find(|(_, changes)| touches(changes)) {
            return Err(format!(
                "a bookmark of {bookmark} before revision {revision} was yielded"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
