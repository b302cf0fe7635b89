//! Student's t distribution, as far as intervals need it.

use std::f64::consts::FRAC_PI_2;

/// Steps of the integration.
const STEPS: usize = 4000;
/// Beyond this many standard deviations nothing is left to add: 1e-16 of the normal law.
const FAR: f64 = 8.3;

/// The value that |T| stays below with 95 % probability, for ν ≥ 1 degrees of freedom, which need not be whole; `None`
/// below that. With t = √ν·tan θ the density becomes cos^(ν−1) θ, so that no gamma function is needed: the angle is
/// found that has 95 % of the integral from 0 on.
pub(super) fn t_95(degrees: f64) -> Option<f64> {
    if degrees.is_nan() || degrees < 1.0 {
        return None;
    }
    // Beyond a million the law is the normal one to six digits.
    let degrees = degrees.min(1e6);
    // The longest tail belongs to ν = 1, whose integrand is constant; for great ν the mass lies near 0.
    let end = if degrees < 60.0 { FRAC_PI_2 } else { (FAR / degrees.sqrt()).min(FRAC_PI_2) };
    let width = end / STEPS as f64;
    let height = |angle: f64| angle.cos().max(0.0).powf(degrees - 1.0);
    // Simpson's rule over each step.
    let piece = |nth: usize| {
        let from = nth as f64 * width;
        (height(from) + 4.0 * height(from + width / 2.0) + height(from + width)) * width / 6.0
    };
    let pieces: Vec<f64> = (0..STEPS).map(piece).collect();
    let mut wanted = 0.95 * pieces.iter().sum::<f64>();
    for (nth, piece) in pieces.iter().enumerate() {
        if wanted <= *piece {
            let angle = (nth as f64 + wanted / piece) * width;
            return Some(degrees.sqrt() * angle.tan());
        }
        wanted -= piece;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_printed_tables() {
        // From tables of Student's law (two-sided 95 %); the broken one by integrating its density.
        let table = [
            (1.0, 12.7062),
            (2.0, 4.3027),
            (3.0, 3.1824),
            (4.0, 2.7764),
            (4.5, 2.6589),
            (9.0, 2.2622),
            (19.0, 2.0930),
            (30.0, 2.0423),
            (59.0, 2.0010),
            (60.0, 2.0003),
            (120.0, 1.9799),
            (1e9, 1.9600),
        ];
        for (degrees, quantile) in table {
            let found = t_95(degrees).unwrap();
            assert!((found - quantile).abs() < 2e-4, "{degrees} degrees: {found}");
        }
        assert_eq!((t_95(0.9), t_95(f64::NAN)), (None, None));
    }
}
