//! Decisions that take longer than a moment, on threads of their own.
//!
//! A decision is tried in place first, with so little work that it stops nothing else. What needs
//! more goes to a few threads that do nothing else. Each caller has one decision under way and a
//! few that wait, and the threads take callers in turn: one caller's decisions wait for each
//! other, not the others' for them. A decision that does not come in time is a denial.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    net::IpAddr,
    sync::{Arc, Condvar, Mutex, OnceLock, PoisonError, mpsc},
    time::Duration,
};

use renkei_access::{HttpHost, RequestPath};
use renkei_policy::{Decision, Operation, Request, ServicePolicy};
use renkei_spiffe::SpiffeId;

/// Threads for decisions; a caller has one of them at most, and a site all but one.
const THREADS: usize = 4;
/// Decisions of one caller that may wait for its turn.
const MAX_WAITING_OF_CALLER: usize = 4;
/// Decisions about the callers of one site that may wait.
const MAX_WAITING_OF_SITE: usize = 32;
/// All decisions that may wait. Each holds a thread of the runtime, which has 512.
const MAX_WAITING: usize = 128;
/// The longest that a connection or request waits for its decision.
const MAX_WAIT: Duration = Duration::from_secs(5);

/// What is asked, in values of its own.
pub(super) struct Question {
    pub(super) policy: Arc<ServicePolicy>,
    pub(super) peer: SpiffeId,
    pub(super) service: SpiffeId,
    pub(super) operation: Asked,
    pub(super) source: IpAddr,
}

/// An [`Operation`] that owns what it names.
pub(super) enum Asked {
    Connect,
    Http {
        method: String,
        host: HttpHost,
        path: RequestPath,
    },
}

impl Question {
    fn answer(&self) -> Decision {
        let operation = match &self.operation {
            Asked::Connect => Operation::Connect,
            Asked::Http { method, host, path } => Operation::Http { method, host, path },
        };
        self.policy.decide(&Request {
            peer: &self.peer,
            service: &self.service,
            operation,
            source: Some(self.source),
        })
    }
}

struct Job {
    question: Question,
    answer: mpsc::SyncSender<Decision>,
}

#[derive(Default)]
struct Queues {
    /// Of each caller that waits, its decisions.
    jobs: HashMap<SpiffeId, VecDeque<Job>>,
    /// Callers with decisions that wait, in the order of their turns.
    turns: VecDeque<SpiffeId>,
    running: HashSet<SpiffeId>,
    waiting: usize,
}

impl Queues {
    /// The next decision of a caller that has none under way, and whose site leaves a thread.
    fn next(&mut self) -> Option<Job> {
        let at = self.turns.iter().position(|caller| {
            let site = caller.trust_domain();
            let of_site = self.running.iter().filter(|own| own.trust_domain() == site);
            !self.running.contains(caller) && of_site.count() < THREADS - 1
        })?;
        let caller = self.turns.remove(at)?;
        let own = self.jobs.get_mut(&caller)?;
        let job = own.pop_front()?;
        match own.is_empty() {
            true => drop(self.jobs.remove(&caller)),
            false => self.turns.push_back(caller.clone()),
        }
        self.waiting -= 1;
        self.running.insert(caller);
        Some(job)
    }

    fn add(&mut self, job: Job) -> Result<(), &'static str> {
        let caller = &job.question.peer;
        let own = self.jobs.get(caller).map_or(0, VecDeque::len);
        if own >= MAX_WAITING_OF_CALLER {
            return Err("too many decisions about this caller are waiting");
        }
        let site = caller.trust_domain();
        let of_site = self
            .jobs
            .iter()
            .filter(|(own, _)| own.trust_domain() == site);
        if of_site.map(|(_, jobs)| jobs.len()).sum::<usize>() >= MAX_WAITING_OF_SITE {
            return Err("too many decisions about callers of this site are waiting");
        }
        if self.waiting >= MAX_WAITING {
            return Err("too many decisions are waiting");
        }
        if own == 0 {
            self.turns.push_back(caller.clone());
        }
        self.waiting += 1;
        self.jobs.entry(caller.clone()).or_default().push_back(job);
        Ok(())
    }
}

struct Pool {
    queues: Mutex<Queues>,
    more: Condvar,
}

impl Pool {
    /// The one of this process; its threads start with the first decision that needs them.
    fn get() -> &'static Self {
        static POOL: OnceLock<Pool> = OnceLock::new();
        static STARTED: OnceLock<()> = OnceLock::new();
        let pool = POOL.get_or_init(|| Self {
            queues: Mutex::default(),
            more: Condvar::new(),
        });
        STARTED.get_or_init(|| {
            for number in 0..THREADS {
                let thread = std::thread::Builder::new().name(format!("decision-{number}"));
                if let Err(error) = thread.spawn(move || pool.work()) {
                    tracing::error!(%error, "a thread for decisions does not start");
                }
            }
        });
        pool
    }

    fn work(&self) {
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let Some(job) = queues.next() else {
                queues = self
                    .more
                    .wait(queues)
                    .unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            drop(queues);
            let caller = job.question.peer.clone();
            // A fault in a decision must cost its caller an answer, not everybody a thread.
            let decided = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                // A receiver that is gone has been denied already.
                let _ = job.answer.send(job.question.answer());
            }));
            if decided.is_err() {
                tracing::error!(caller = %caller, "a decision failed");
            }
            queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
            queues.running.remove(&caller);
            self.more.notify_all();
        }
    }

    fn ask(&self, question: Question) -> Result<Decision, &'static str> {
        let (answer, answers) = mpsc::sync_channel(1);
        let job = Job { question, answer };
        self.queues
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .add(job)?;
        self.more.notify_one();
        answers
            .recv_timeout(MAX_WAIT)
            .map_err(|_| "it did not come in time")
    }
}

/// Waits for a decision, in a way that stops no other task.
pub(super) fn ask(question: Question) -> Decision {
    let policy = Arc::clone(&question.policy);
    let asked = without_stopping_others(|| Pool::get().ask(question));
    asked.unwrap_or_else(|reason| policy.undecided(reason))
}

fn without_stopping_others<T>(wait: impl FnOnce() -> T) -> T {
    use tokio::runtime::{Handle, RuntimeFlavor};
    let threads = Handle::try_current().map(|handle| handle.runtime_flavor());
    match threads {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(wait),
        _ => wait(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> SpiffeId {
        SpiffeId::parse(&format!("spiffe://{text}")).unwrap()
    }

    fn job(peer: &str) -> (Job, mpsc::Receiver<Decision>) {
        let service = id("tokyo.example/mdx");
        let policy = Arc::new(ServicePolicy::new(service.clone(), Vec::new(), None));
        let (answer, answers) = mpsc::sync_channel(1);
        let question = Question {
            policy,
            peer: id(peer),
            service,
            operation: Asked::Connect,
            source: [127, 0, 0, 1].into(),
        };
        (Job { question, answer }, answers)
    }

    fn next(queues: &mut Queues) -> Option<String> {
        queues.next().map(|job| job.question.peer.short())
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn callers_whose_names_cost_much_are_denied_and_stop_no_others() {
        let service = id("tokyo.example/mdx");
        let rules = "package renkei.authz\n\
            parts := split(input.peer.path, \"\")\n\
            slow if { some a in parts; some b in parts; some c in parts; a == b; b == c; c == \"b\" }\n\
            deny contains \"slow\" if { startswith(input.peer.path, \"/aaa\"); slow }\n";
        let rules = renkei_policy::RegoModule::compile("p.rego", rules).unwrap();
        let (greedy, other) = (
            id(&format!("osaka.example/{}", "a".repeat(1000))),
            id("osaka.example/x"),
        );
        let allow = vec![greedy.clone(), other.clone()];
        let policy = Arc::new(ServicePolicy::new(service.clone(), allow, Some(rules)));
        let ask = |peer: &SpiffeId| {
            let (policy, service, peer) = (policy.clone(), service.clone(), peer.clone());
            tokio::spawn(async move {
                let source = [127, 0, 0, 1].into();
                super::super::decide(&policy, &service, &peer, Operation::Connect, source)
            })
        };
        let greedy: Vec<_> = (0..40).map(|_| ask(&greedy)).collect();
        assert!(ask(&other).await.unwrap().allowed);
        for decision in greedy {
            let decision = decision.await.unwrap();
            assert!(!decision.allowed);
            let told = [
                "in the rule slow: it took too long",
                "are waiting",
                "in time",
            ];
            assert!(
                told.iter().any(|part| decision.reason.contains(part)),
                "{}",
                decision.reason
            );
        }
    }

    #[test]
    fn callers_take_turns_and_have_one_decision_under_way() {
        let mut queues = Queues::default();
        for _ in 0..4 {
            queues.add(job("a.example/greedy").0).unwrap();
        }
        queues.add(job("b.example/other").0).unwrap();
        assert_eq!(next(&mut queues).as_deref(), Some("a.example/greedy"));
        assert_eq!(next(&mut queues).as_deref(), Some("b.example/other"));
        assert_eq!(next(&mut queues), None, "both have one under way");
        queues.running.remove(&id("a.example/greedy"));
        assert_eq!(next(&mut queues).as_deref(), Some("a.example/greedy"));
    }

    #[test]
    fn a_site_with_many_callers_leaves_a_thread_to_others() {
        let mut queues = Queues::default();
        for caller in 0..20 {
            queues.add(job(&format!("a.example/c{caller}")).0).unwrap();
        }
        queues.add(job("b.example/other").0).unwrap();
        for _ in 0..THREADS - 1 {
            assert!(next(&mut queues).unwrap().starts_with("a.example/"));
        }
        assert_eq!(next(&mut queues).as_deref(), Some("b.example/other"));
    }

    #[test]
    fn what_waits_is_bounded_for_a_caller_and_for_all() {
        let mut queues = Queues::default();
        for _ in 0..MAX_WAITING_OF_CALLER {
            queues.add(job("a.example/greedy").0).unwrap();
        }
        assert!(queues.add(job("a.example/greedy").0).is_err());
        queues.add(job("a.example/other").0).unwrap();
        for caller in 0..MAX_WAITING_OF_SITE {
            queues.add(job(&format!("b.example/c{caller}")).0).unwrap();
        }
        assert!(queues.add(job("b.example/late").0).is_err());
        for caller in queues.waiting..MAX_WAITING {
            queues.add(job(&format!("s{caller}.example/c")).0).unwrap();
        }
        assert!(queues.add(job("c.example/late").0).is_err());
    }
}
