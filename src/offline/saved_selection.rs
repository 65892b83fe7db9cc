//! A selection as lines of text: one for each rule.

use std::time::Duration;

use super::{
    Renditions, Selection, Variants,
    saved::{SavedLines, figure, micros},
};

pub(super) fn write(selection: &Selection, line: &mut impl FnMut(&str, &str)) {
    match &selection.variants {
        Variants::Each(rules) => rules.iter().for_each(|rule| line("variants", &variants(rule))),
        rule => line("variants", &variants(rule)),
    }
    for rule in selection.renditions.clone().into_rules() {
        match rule {
            Renditions::All => line("renditions", "all"),
            Renditions::Languages(languages) => {
                for language in languages {
                    line("renditions", &format!("language {}", in_a_line(&language)));
                }
            }
            Renditions::Names(names) => {
                for name in names {
                    line("renditions", &format!("name {}", in_a_line(&name)));
                }
            }
            _ => line("renditions", "default"),
        }
    }
    if let Some(window) = &selection.window {
        let figures = format!("{} {}", micros(window.start), micros(window.end));
        line("window", &figures);
    }
}

pub(super) fn read(lines: &SavedLines<'_>) -> Option<Selection> {
    let rules = lines.all("variants").map(read_variants);
    let mut rules = rules.collect::<Option<Vec<_>>>()?;
    let variants = match rules.pop()? {
        rule if rules.is_empty() => rule,
        rule => {
            rules.push(rule);
            Variants::Each(rules)
        }
    };
    let renditions = lines.all("renditions").map(read_renditions);
    // Languages that were one rule are one again.
    let renditions = renditions.reduce(|one, other| Some(one?.and(other?)));
    let window = lines.one("window").and_then(|figures| {
        let mut figures = figures.split_whitespace();
        let start = figure(&mut figures)?;
        Some(Duration::from_micros(start)..Duration::from_micros(figure(&mut figures)?))
    });
    Some(Selection {
        variants,
        renditions: renditions.unwrap_or(Some(Renditions::Default))?,
        window,
    })
}

fn variants(variants: &Variants) -> String {
    match variants {
        Variants::First => "first".to_owned(),
        Variants::Highest => "highest".to_owned(),
        Variants::Lowest => "lowest".to_owned(),
        // A union within a union: all of them hold what it names.
        Variants::All | Variants::Each(_) => "all".to_owned(),
        Variants::AtMost(limit) => format!("at-most {limit}"),
        Variants::These(indices) => {
            let mut text = "these".to_owned();
            for index in indices {
                text.push(' ');
                text.push_str(&index.to_string());
            }
            text
        }
    }
}

fn read_variants(text: &str) -> Option<Variants> {
    let mut words = text.split_whitespace();
    Some(match words.next()? {
        "first" => Variants::First,
        "highest" => Variants::Highest,
        "lowest" => Variants::Lowest,
        "all" => Variants::All,
        "at-most" => Variants::AtMost(words.next()?.parse().ok()?),
        "these" => {
            let indices: Result<_, _> = words.map(str::parse).collect();
            Variants::These(indices.ok()?)
        }
        _ => return None,
    })
}

fn read_renditions(text: &str) -> Option<Renditions> {
    let (rule, name) = text.split_once(' ').unwrap_or((text, ""));
    Some(match rule {
        "default" => Renditions::Default,
        "all" => Renditions::All,
        "language" => Renditions::Languages(vec![name.to_owned()]),
        "name" => Renditions::Names(vec![name.to_owned()]),
        _ => return None,
    })
}

/// A line break in a name would end its line.
fn in_a_line(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}
