//! The static imports of an ES module. They stand in statements that begin a line.

/// What a module imports, in order. `import()` is not among them.
pub(crate) fn of(source: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut rest = source;
    while !rest.is_empty() {
        found.extend(specifier(rest));
        rest = rest.split_once('\n').map_or("", |(_, next)| next);
    }
    found
}

/// What the statement at the beginning of this text imports, if it is one that does.
fn specifier(text: &str) -> Option<&str> {
    let (is_export, statement) = match text.strip_prefix("import") {
        Some(rest) => (false, rest),
        None => (true, text.strip_prefix("export")?),
    };
    let (clause, quoted) = statement.split_once(['"', '\''])?;
    let quote = statement.get(clause.len()..)?.chars().next()?;
    let names = clause.trim();
    // Names, braces and a star: nothing that would be a call or a declaration.
    let plain = |c: char| c.is_alphanumeric() || c.is_whitespace() || "_$*,{}".contains(c);
    let names_before = names.strip_suffix("from").is_some_and(|names| {
        let names = names.trim();
        !is_export || names.starts_with('{') || names.starts_with('*')
    });
    let is_import = clause.chars().all(plain) && (names_before || (names.is_empty() && !is_export));
    let end = quoted.find(quote)?;
    is_import.then(|| quoted.get(..end)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_are_told_from_calls_declarations_and_comments() {
        let source = "import { a, b as c } from \"./a.js\";\nimport './b.js'\nimport{x}from'c';\n\
             import {\n  one,\n  two,\n} from \"./d.js\";\nexport { z } from \"./e.js\";\nexport * as y from './f.js';\n\
             // import { no } from \"./no.js\";\nconst x = await import(\"./no.js\");\nimport(\"./no.js\");\n\
             import.meta.resolve(\"./no.js\");\nexport const from = \"./no.js\";\nexport function f() { return \"./no.js\"; }\n\
             import g, { h } from \"g/h\";\n";
        assert_eq!(of(source), ["./a.js", "./b.js", "c", "./d.js", "./e.js", "./f.js", "g/h"]);
        assert!(of("").is_empty() && of("import").is_empty() && of("import \"").is_empty());
    }
}
