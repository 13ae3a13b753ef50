//! How nodes share one token bucket: each is leased a part of its rate, by what it is asked for.
//!
//! Pure: who asks for how much is handed in. The parts of all nodes are never more than the whole, so a node that keeps its
//! last lease while nobody can be reached exceeds nothing.

/// Divides a bucket's `rate` (tokens per second) among nodes that are asked for `demands`; gives their parts, which sum up
/// to 1.
///
/// Who is asked for little gets all of that, and what is left is divided evenly among the others (max-min fairness); what
/// nobody is asked for is divided evenly among all, so that each can serve who comes next.
pub fn divide(rate: f64, demands: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..demands.len()).collect();
    order.sort_by(|&one, &other| demands[one].total_cmp(&demands[other]));
    let mut granted = vec![0.0; demands.len()];
    let mut left = rate;
    for (place, &node) in order.iter().enumerate() {
        let even = left / (order.len() - place) as f64;
        granted[node] = demands[node].clamp(0.0, even);
        left -= granted[node];
    }
    let spare = left.max(0.0) / demands.len().max(1) as f64;
    granted
        .into_iter()
        .map(|tokens| (tokens + spare) / rate)
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn who_asks_for_little_gets_it_and_the_others_share_the_rest() {
        let cases: [(f64, &[f64], &[f64]); 6] = [
            (100.0, &[], &[]),
            (100.0, &[7.0], &[1.0]),
            (100.0, &[0.0, 0.0], &[0.5, 0.5]),
            (100.0, &[10.0, 500.0], &[0.1, 0.9]),
            (100.0, &[500.0, 10.0, 300.0], &[0.45, 0.1, 0.45]),
            (100.0, &[10.0, 50.0], &[0.3, 0.7]), // 40 to spare
        ];
        for (rate, demands, expected) in cases {
            let parts = divide(rate, demands);
            let near = |(one, other): (&f64, &f64)| (one - other).abs() < 1e-9;
            assert!(
                parts.iter().zip(expected).all(near),
                "{demands:?}: {parts:?}"
            );
            assert_eq!(parts.len(), expected.len());
        }
    }

    proptest! {
        #[test]
        fn the_parts_are_the_whole(
            rate in 0.01f64..1e6,
            demands in prop::collection::vec(0.0f64..1e6, 1..40),
        ) {
            let parts = divide(rate, &demands);
            prop_assert!((parts.iter().sum::<f64>() - 1.0).abs() < 1e-6);
            prop_assert!(parts.iter().all(|part| (0.0..=1.0 + 1e-9).contains(part)));
        }
    }
}
