//! What a run of the recipe has done so far: told to whoever watches, and picked up where a run was interrupted.

use core::fmt;
use std::borrow::Cow;

use query_adapter::Level;
use serde::{Deserialize, Serialize};

use super::choice::{Candidate, Choice, Tried};
use super::plan::Plan;
use super::trials::Trial;
use crate::failure::Failure;
use crate::fit::{Adapter, adapter_of, not_of_this_run, panels_of};

/// What a run tells while it goes on.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// The rounds of a plan begin, or what is left of them, with this one; rounds are counted from 1, over all plans.
    Start(usize, &'a Plan, &'a [Trial]),
    /// A setting was tried in every fold of a round; at no epoch where its numbers grew beyond bounds.
    Trial(usize, &'a Trial, &'a [Tried]),
    /// A round is over: what was chosen among these.
    Round(usize, &'a [Trial], &'a Choice),
    /// Between fits: where the run stands, to go on from another time.
    Between(&'a State<'a>),
}

/// A run between two fits: the rounds that are over, and what the choice keeps of the one under way.
///
/// It holds an adapter for each round, and for each fold those of the candidates that a mean may be made of: its size does
/// not grow with the number of trials.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct State<'a> {
    over: Cow<'a, [Over]>,
    under_way: UnderWay<'a>,
}

/// What came of a round.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Over {
    choice: Choice,
    panels: Vec<f32>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
enum UnderWay<'a> {
    /// The first so many trials were tried.
    Trying { trials: usize, candidates: Vec<Kept<'a>> },
    /// The choice is made and not yet fitted to all pairs.
    Chosen(Cow<'a, Choice>),
}

/// A [`Candidate`].
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Kept<'a> {
    tried: Tried,
    panels: Vec<Cow<'a, [f32]>>,
    values: Cow<'a, [f64]>,
}

/// What comes next.
impl fmt::Display for State<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let round = self.over.len() + 1;
        match &self.under_way {
            UnderWay::Trying { trials, .. } => write!(f, "setting {} of round {round}", trials + 1),
            UnderWay::Chosen(_) => write!(f, "the choice of round {round}"),
        }
    }
}

impl UnderWay<'_> {
    const NOTHING: Self = Self::Trying { trials: 0, candidates: Vec::new() };
}

/// Follows a run from its first round to its last.
pub struct Journal<'a> {
    over: Vec<Over>,
    /// Rounds that were asked for.
    rounds: usize,
    /// Of the round that was under way when the run was interrupted.
    resumed: UnderWay<'static>,
    observe: &'a mut dyn FnMut(Event<'_>) -> Result<(), Failure>,
}

impl<'a> Journal<'a> {
    /// Of a run from the beginning, or from where it was interrupted. A failure of `observe` ends the run.
    pub fn new(
        from: Option<State<'static>>,
        observe: &'a mut dyn FnMut(Event<'_>) -> Result<(), Failure>,
    ) -> Self {
        let (over, resumed) =
            from.map_or((Vec::new(), UnderWay::NOTHING), |state| (state.over.into_owned(), state.under_way));
        Self { over, rounds: 0, resumed, observe }
    }

    /// Where the run stands after a round.
    #[must_use]
    pub fn into_state(self) -> State<'static> {
        State { over: Cow::Owned(self.over), under_way: UnderWay::NOTHING }
    }

    /// Begins with the rounds of a plan.
    pub(super) fn start(&mut self, plan: &Plan, trials: &[Trial]) -> Result<(), Failure> {
        let next = self.rounds.max(self.over.len()) + 1;
        (self.observe)(Event::Start(next, plan, trials))
    }

    /// Begins the next round; returns what came of it where it is over already.
    pub(super) fn begin(&mut self, dim: usize, level: Level) -> Result<Option<(Choice, Adapter)>, Failure> {
        self.rounds += 1;
        let Some(Over { choice, panels }) = self.over.get(self.rounds - 1) else { return Ok(None) };
        Ok(Some((choice.clone(), adapter_of(panels, dim, false, level)?)))
    }

    /// The candidates of the round that was under way, and of how many trials they are.
    pub(super) fn resumed_candidates(
        &mut self,
        dim: usize,
        folds: usize,
        level: Level,
    ) -> Result<(usize, Vec<Candidate>), Failure> {
        let UnderWay::Trying { trials, candidates } =
            core::mem::replace(&mut self.resumed, UnderWay::NOTHING)
        else {
            return Ok((0, Vec::new()));
        };
        let candidate = |kept: Kept<'_>| {
            if kept.tried.member.trial >= trials || ![0, folds].contains(&kept.panels.len()) {
                return Err(not_of_this_run("its candidates are not of its trials"));
            }
            let adapters = kept.panels.iter().map(|panels| adapter_of(panels, dim, false, level));
            let adapters = adapters.collect::<Result<_, _>>()?;
            Ok(Candidate { tried: kept.tried, adapters, values: kept.values.into_owned() })
        };
        Ok((trials, candidates.into_iter().map(candidate).collect::<Result<_, _>>()?))
    }

    /// The choice of the round that was under way, if it was made.
    pub(super) fn resumed_choice(&mut self) -> Option<Choice> {
        let UnderWay::Chosen(choice) = &self.resumed else { return None };
        let choice = choice.clone().into_owned();
        self.resumed = UnderWay::NOTHING;
        Some(choice)
    }

    /// Takes what a trial came to.
    pub(super) fn tried(&mut self, trial: &Trial, tried: &[Tried]) -> Result<(), Failure> {
        (self.observe)(Event::Trial(self.rounds, trial, tried))
    }

    /// Takes the candidates of the first so many trials.
    pub(super) fn trying(&mut self, trials: usize, candidates: &[Candidate]) -> Result<(), Failure> {
        let candidates = candidates.iter().map(|Candidate { tried, adapters, values }| Kept {
            tried: *tried,
            panels: adapters.iter().map(panels_of).collect(),
            values: Cow::Borrowed(values),
        });
        let candidates = candidates.collect();
        self.between(UnderWay::Trying { trials, candidates })
    }

    /// Takes the choice of a round.
    pub(super) fn chosen(&mut self, choice: &Choice) -> Result<(), Failure> {
        self.between(UnderWay::Chosen(Cow::Borrowed(choice)))
    }

    /// Ends a round.
    pub(super) fn finish(
        &mut self,
        trials: &[Trial],
        choice: &Choice,
        adapter: &Adapter,
    ) -> Result<(), Failure> {
        self.over.push(Over { choice: choice.clone(), panels: panels_of(adapter).into_owned() });
        (self.observe)(Event::Round(self.rounds, trials, choice))?;
        self.between(UnderWay::NOTHING)
    }

    fn between(&mut self, under_way: UnderWay<'_>) -> Result<(), Failure> {
        let state = State { over: Cow::Borrowed(&self.over), under_way };
        (self.observe)(Event::Between(&state))
    }
}
