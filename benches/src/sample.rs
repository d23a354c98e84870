//! Samples and what is made of them: the same number of turns for both sides, in turn, and percentiles.

use std::time::{Duration, Instant};

use crate::Result;

/// The middle and the tail of many samples.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Figure {
    pub(crate) p50: f64,
    /// Only where there are enough samples for it to mean something.
    pub(crate) p99: Option<f64>,
}

/// Fewer samples have no tail.
const ENOUGH_FOR_P99: usize = 50;

impl Figure {
    /// One value.
    pub(crate) fn single(value: f64) -> Self {
        Self { p50: value, p99: None }
    }

    /// Of samples, none if there are none.
    pub(crate) fn of(samples: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = samples.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let p99 = if sorted.len() >= ENOUGH_FOR_P99 { percentile(&sorted, 99) } else { None };
        Some(Self { p50: percentile(&sorted, 50)?, p99 })
    }

    /// Of durations, in seconds.
    pub(crate) fn of_times(samples: impl IntoIterator<Item = Duration>) -> Option<Self> {
        Self::of(samples.into_iter().map(|duration| duration.as_secs_f64()))
    }
}

/// The nearest rank: the smallest sample that at least so many in a hundred do not exceed.
fn percentile(sorted: &[f64], hundredths: usize) -> Option<f64> {
    let rank = (sorted.len() * hundredths).div_ceil(100).max(1);
    sorted.get(rank - 1).copied()
}

/// Takes turns: bare, ours, bare, ours, so that whatever else this machine does hits both alike. One turn of
/// each before counting starts. Ends early when the limit is over.
pub(crate) fn in_turn<B, O>(
    count: usize,
    limit: Duration,
    mut bare: impl FnMut() -> Result<B>,
    mut ours: impl FnMut() -> Result<O>,
) -> Result<(Vec<B>, Vec<O>)> {
    let end = Instant::now() + limit;
    bare()?;
    ours()?;
    let (mut all_bare, mut all_ours) = (Vec::with_capacity(count), Vec::with_capacity(count));
    while all_bare.len() < count && (all_bare.is_empty() || Instant::now() < end) {
        all_bare.push(bare()?);
        all_ours.push(ours()?);
    }
    Ok((all_bare, all_ours))
}

/// A whole number for arithmetic with fractions.
#[expect(
    clippy::as_conversions,
    clippy::cast_precision_loss,
    reason = "there is no other conversion, and what is measured is far below 2^53"
)]
pub(crate) fn float(number: u64) -> f64 {
    number as f64
}

/// A count for arithmetic with fractions.
pub(crate) fn count(number: usize) -> f64 {
    float(u64::try_from(number).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_the_nearest_rank() {
        let figure = Figure::of((1..=100).rev().map(f64::from)).unwrap();
        assert_eq!((figure.p50, figure.p99), (50.0, Some(99.0)));
        assert_eq!(Figure::of([3.0, 1.0, 2.0]), Some(Figure { p50: 2.0, p99: None }));
        assert_eq!(Figure::of([7.0]), Some(Figure::single(7.0)));
        assert_eq!(Figure::of([]), None);
    }

    #[test]
    fn both_sides_get_the_same_number_of_turns_one_after_the_other() {
        let order = std::cell::RefCell::new(String::new());
        let note = |side| {
            order.borrow_mut().push(side);
            Ok(())
        };
        let (bare, ours) = in_turn(2, Duration::from_mins(1), || note('b'), || note('o')).unwrap();
        assert_eq!((bare.len(), ours.len()), (2, 2));
        assert_eq!(order.into_inner(), "bobobo");
    }
}
