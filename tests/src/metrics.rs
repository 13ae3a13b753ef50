//! The node's `/metrics`, parsed.

/// One reading of all metrics. Source: the Prometheus text exposition format.
#[derive(Debug, Clone)]
pub struct Metrics {
    samples: Vec<Sample>,
    text: String,
}

#[derive(Debug, Clone)]
struct Sample {
    name: String,
    labels: Vec<(String, String)>,
    value: f64,
}

impl Metrics {
    /// Parses the text format; lines that are no samples are left out.
    pub fn parse(text: &str) -> Self {
        let samples = text
            .lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(sample)
            .collect();
        Self {
            samples,
            text: text.into(),
        }
    }

    /// The sum over all series of `name` that have these labels; 0 where there is none.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let has = |sample: &Sample, (key, value): &(&str, &str)| {
            sample.labels.iter().any(|(k, v)| k == key && v == value)
        };
        let matching = self.samples.iter().filter(|sample| sample.name == name);
        matching
            .filter(|sample| labels.iter().all(|label| has(sample, label)))
            .map(|sample| sample.value)
            .sum()
    }

    /// Whether any series has this name.
    pub fn has(&self, name: &str) -> bool {
        self.samples.iter().any(|sample| sample.name == name)
    }

    /// What the node sent.
    pub fn text(&self) -> &str {
        &self.text
    }
}

fn sample(line: &str) -> Option<Sample> {
    let (series, value) = line.rsplit_once(' ')?;
    let (name, labels) = match series.split_once('{') {
        Some((name, labels)) => (name, labels.strip_suffix('}')?),
        None => (series, ""),
    };
    Some(Sample {
        name: name.into(),
        labels: label_pairs(labels),
        value: value.parse().ok()?,
    })
}

/// `a="x",b="y, z"`: a value may hold commas and escaped quotes.
fn label_pairs(mut text: &str) -> Vec<(String, String)> {
    let mut pairs = Vec::new();
    while let Some((name, rest)) = text.split_once("=\"") {
        let mut value = String::new();
        let mut characters = rest.char_indices();
        let mut end = rest.len();
        while let Some((at, character)) = characters.next() {
            match character {
                '\\' => value.extend(
                    characters
                        .next()
                        .map(|(_, escaped)| if escaped == 'n' { '\n' } else { escaped }),
                ),
                '"' => {
                    end = at + 1;
                    break;
                }
                other => value.push(other),
            }
        }
        pairs.push((name.trim_start_matches([',', ' ']).into(), value));
        text = &rest[end..];
    }
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_summed_by_the_labels_that_are_asked_for() {
        let metrics = Metrics::parse(
            "# HELP a_total Text.\n# TYPE a_total counter\na_total{route=\"GET /x, y\",status=\"200\"} 2\n\
             a_total{route=\"q\\\"q\",status=\"500\"} 3\nup 1\n",
        );
        let cases: [(&[(&str, &str)], f64); 4] = [
            (&[], 5.0),
            (&[("status", "200")], 2.0),
            (&[("route", "q\"q")], 3.0),
            (&[("status", "404")], 0.0),
        ];
        for (labels, expected) in cases {
            assert_eq!(metrics.sum("a_total", labels), expected, "{labels:?}");
        }
        assert_eq!(metrics.sum("up", &[]), 1.0);
        assert!(!metrics.has("down"));
    }
}
