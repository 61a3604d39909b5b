//! The goals as a picture: a bar a goal, drawn against its limit.

use crate::results::{Bound, Score, number};

const WIDTH: u32 = 860;
const ROW: u32 = 34;
const TOP: u32 = 64;
const BAR_X: u32 = 400;
/// The limit of every goal stands at this length; a bar at most twice as long is drawn whole.
const LIMIT_LENGTH: f64 = 160.0;
const LENGTH_MAX: f64 = 340.0;

pub fn svg(scores: &[Score], note: &str) -> String {
    let height = TOP + ROW * u32::try_from(scores.len()).unwrap_or(0) + 40;
    let limit_x = f64::from(BAR_X) + LIMIT_LENGTH;
    let mut svg = format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="14">
<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>
<text x="16" y="26" font-size="17" font-weight="bold" fill="#1a1a1a">Segue against its goals</text>
<text x="16" y="48" fill="#555555">Bar: measured. Line: the goal; &#8805; is met to its right, &#8804; to its left.</text>
"##
    );
    for (row, score) in (0..).zip(scores) {
        let y = TOP + ROW * row;
        let middle = y + ROW / 2 + 5;
        let length = (score.value / score.goal.limit * LIMIT_LENGTH).clamp(1.0, LENGTH_MAX);
        let colour = if score.is_met() { "#2f7d4f" } else { "#b5482f" };
        let sign = match score.goal.bound {
            Bound::Least => "&#8805;",
            Bound::Most => "&#8804;",
        };
        let name = match score.against {
            "" => score.metric.label().to_owned(),
            against => format!("{} &#247; {against}", score.metric.label()),
        };
        let goal = number(score.goal.limit);
        svg += &format!(
            r##"<text x="{}" y="{middle}" text-anchor="end" fill="#1a1a1a">{name} {sign} {goal}</text>
<rect x="{BAR_X}" y="{}" width="{length:.0}" height="18" rx="2" fill="{colour}"/>
<text x="{:.0}" y="{middle}" fill="#1a1a1a">{}</text>
"##,
            BAR_X - 12,
            y + 8,
            f64::from(BAR_X) + length + 8.0,
            number(score.value),
        );
    }
    svg += &format!(
        r##"<line x1="{limit_x:.0}" y1="{TOP}" x2="{limit_x:.0}" y2="{}" stroke="#1a1a1a" stroke-dasharray="4 3"/>
<text x="16" y="{}" font-size="12" fill="#555555">{note}</text>
</svg>
"##,
        height - 40,
        height - 14
    );
    svg
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::Metric;

    #[test]
    fn a_bar_that_reaches_its_goal_is_green() {
        let score = |value| Score {
            metric: Metric::BulkGbPerS,
            goal: Metric::BulkGbPerS.goal().unwrap(),
            against: "haproxy",
            value,
        };
        let svg = svg(&[score(2.0), score(0.5)], "note");
        assert!(svg.contains(r##"width="320" height="18" rx="2" fill="#2f7d4f""##), "{svg}");
        assert!(svg.contains(r##"width="80" height="18" rx="2" fill="#b5482f""##), "{svg}");
    }
}
