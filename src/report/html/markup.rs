/// A piece of the page. Markup enters it only as literals of this program, text only escaped.
#[derive(Clone, Debug, Default)]
pub(super) struct Html(String);

impl Html {
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// Text as a piece of its own.
    pub(super) fn of(text: &str) -> Self {
        let mut html = Self::new();
        html.text(text);
        html
    }

    /// Markup of ours.
    pub(super) fn raw(&mut self, markup: &'static str) -> &mut Self {
        self.0.push_str(markup);
        self
    }

    /// Any text; it stays text.
    pub(super) fn text(&mut self, text: &str) -> &mut Self {
        for c in text.chars() {
            match c {
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '&' => self.0.push_str("&amp;"),
                '"' => self.0.push_str("&quot;"),
                '\'' => self.0.push_str("&#39;"),
                _ => self.0.push(c),
            }
        }
        self
    }

    /// Another piece.
    pub(super) fn add(&mut self, piece: Html) -> &mut Self {
        self.0.push_str(&piece.0);
        self
    }

    /// Output of the chart, style or data writer, which do their own escaping.
    pub(super) fn trusted(&mut self, markup: &str) -> &mut Self {
        self.0.push_str(markup);
        self
    }

    /// The piece within an element, which is named by its opening and closing tag.
    pub(super) fn within(self, open: &'static str, close: &'static str) -> Self {
        let mut html = Self::new();
        html.raw(open).add(self).raw(close);
        html
    }

    pub(super) fn into_string(self) -> String {
        self.0
    }
}

/// What a column of a table holds.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Align {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// A table that scrolls sideways where the page is narrow. The first cell of a row is its heading.
pub(super) fn table(head: &[(String, Align)], rows: Vec<Vec<Html>>) -> Html {
    let mut html = Html::new();
    html.raw("<div class=\"scroll\"><table>\n<thead><tr>");
    for (name, align) in head {
        html.raw(if *align == Align::Right {
            "<th scope=\"col\" class=\"n\">"
        } else {
            "<th scope=\"col\">"
        });
        html.text(name).raw("</th>");
    }
    html.raw("</tr></thead>\n<tbody>\n");
    for row in rows {
        html.raw("<tr>");
        for (at, (cell, (_, align))) in row.into_iter().zip(head).enumerate() {
            let (open, close) = match (at, align) {
                (0, _) => ("<th scope=\"row\">", "</th>"),
                (_, Align::Left) => ("<td>", "</td>"),
                (_, Align::Right) => ("<td class=\"n\">", "</td>"),
            };
            html.add(cell.within(open, close));
        }
        html.raw("</tr>\n");
    }
    html.raw("</tbody></table></div>\n");
    html
}

/// Names with their values, one below the other.
pub(super) fn pairs(rows: Vec<(&'static str, Html)>) -> Html {
    let mut html = Html::new();
    html.raw("<dl>\n");
    for (name, value) in rows {
        html.raw("<dt>").raw(name).raw("</dt><dd>").add(value).raw("</dd>\n");
    }
    html.raw("</dl>\n");
    html
}

/// A paragraph.
pub(super) fn paragraph(text: &str) -> Html {
    Html::of(text).within("<p>", "</p>\n")
}

/// A paragraph that steps back.
pub(super) fn note(text: &str) -> Html {
    Html::of(text).within("<p class=\"note\">", "</p>\n")
}
