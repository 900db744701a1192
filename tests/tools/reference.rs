//! Prints a document of the manual, from the types of the program: `flags`, or `fields` of the configuration file.

// Documents of some kilobytes: an allocation for each line does not count.
#![allow(clippy::format_push_string)]

use clap::Arg;
use serde_json::{Map, Value};

const NO_DEFAULT: &str = "–";

fn main() {
    let text = match std::env::args().nth(1).as_deref() {
        Some("flags") => flags(),
        Some("fields") => fields(),
        other => panic!("reference flags|fields, and not {other:?}"),
    };
    println!("{}", text.trim_end());
}

/// The text of a cell, in one line.
fn cell(text: &str) -> String {
    let words: Vec<_> = text.split_whitespace().collect();
    prose(&words.join(" ").replace('|', "\\|"))
}

/// Text in which no `<` begins an element of HTML; code is as it is.
fn prose(text: &str) -> String {
    let parts = text.split('`').enumerate();
    let parts =
        parts.map(|(number, part)| if number % 2 == 0 { part.replace('<', "\\<") } else { part.to_owned() });
    parts.collect::<Vec<_>>().join("`")
}

fn code(text: &str) -> String {
    format!("`{}`", text.replace('|', "\\|"))
}

fn flags() -> String {
    let mut root = ecr_pull_secrets::commands::flags();
    root.build();
    let mut text = "# Flags\n\nGenerated from the program by `make generate`. `ecr-pull-secrets COMMAND --help` prints the same. \
        A flag takes precedence over its environment variable. The variables and files of the AWS SDK configure access to AWS: \
        [AWS](aws.md).\n\n## All commands\n\n"
        .to_owned();
    text += &arguments(root.get_arguments());
    for command in
        root.get_subcommands().filter(|command| !command.is_hide_set() && command.get_name() != "help")
    {
        let about =
            command.get_long_about().or(command.get_about()).expect("each command has a text").to_string();
        text += &format!("\n## `{}`\n\n{}\n\n", command.get_name(), prose(&about));
        text += &arguments(command.get_arguments().filter(|argument| !argument.is_global_set()));
        for action in command.get_subcommands().filter(|action| action.get_name() != "help") {
            let about = action.get_about().map(ToString::to_string).unwrap_or_default();
            text += &format!("\n`{} {}`: {about}\n", command.get_name(), action.get_name());
        }
        if let Some(codes) = command.get_after_help().map(ToString::to_string)
            && let Some(start) = codes.find("Exit codes:")
        {
            text += &format!("\n{}\n", &codes[start..]);
        }
    }
    text
}

fn arguments<'a>(arguments: impl Iterator<Item = &'a Arg>) -> String {
    let rows: Vec<_> = arguments
        .filter(|argument| {
            !argument.is_hide_set() && !["help", "version"].contains(&argument.get_id().as_str())
        })
        .map(row)
        .collect();
    if rows.is_empty() {
        return "No flags of its own.\n".to_owned();
    }
    format!("| flag | meaning |\n|---|---|\n{}\n", rows.join("\n"))
}

fn row(argument: &Arg) -> String {
    let values: Vec<_> =
        argument.get_possible_values().iter().map(|value| value.get_name().to_owned()).collect();
    let takes_value = argument.get_action().takes_values();
    let value = if !takes_value {
        String::new()
    } else if values.is_empty() || values == ["true", "false"] {
        argument.get_value_names().map(|names| names.join(" ")).unwrap_or_default()
    } else {
        values.join("|")
    };
    let mut names: Vec<_> = argument.get_short().map(|short| format!("-{short}")).into_iter().collect();
    names.extend(argument.get_long().map(|long| format!("--{long}")));
    let optional = argument.get_num_args().is_some_and(|number| number.min_values() == 0);
    let name = match (names.is_empty(), takes_value) {
        (true, _) => value,
        (_, false) => names.join(", "),
        _ if optional => format!("{}[={value}]", names.join(", ")),
        _ => format!("{} {value}", names.join(", ")),
    };
    let help = argument.get_long_help().or(argument.get_help()).map(ToString::to_string).unwrap_or_default();
    let mut sentences = vec![cell(&help)];
    let defaults: Vec<_> =
        argument.get_default_values().iter().map(|value| code(&value.to_string_lossy())).collect();
    if takes_value && !defaults.is_empty() {
        sentences.push(format!("Default: {}", defaults.join(", ")));
    }
    if let Some(variable) = argument.get_env() {
        sentences.push(format!("Variable: {}", code(&variable.to_string_lossy())));
    }
    sentences.retain(|sentence| !sentence.is_empty());
    format!("| {} | {} |", code(&name), sentences.join(". "))
}

fn fields() -> String {
    let schema: Value =
        serde_json::to_value(schemars::schema_for!(ecr_pull_secrets::config::Config)).expect("JSON");
    let definitions = schema["$defs"].as_object().expect("definitions");
    let mut text = "# Fields of the configuration file\n\nGenerated from the program by `make generate`. An example with all \
        fields: [configuration](configuration.md). A field with – has no default value, or the \
        table of the object lists the defaults. A *required* field is always required; the meaning of a field names other cases.\n\n"
        .to_owned();
    text += &object("", &schema, definitions);
    text
}

/// The table of an object's fields, then those of the objects in it.
fn object(path: &str, schema: &Value, definitions: &Map<String, Value>) -> String {
    let empty = vec![];
    let required = schema["required"].as_array().unwrap_or(&empty);
    let properties = schema["properties"].as_object().expect("the fields of an object");
    let mut text = "| field | type | default | meaning |\n|---|---|---|---|\n".to_owned();
    let mut below = String::new();
    for (name, field) in properties {
        let default = match &field["default"] {
            _ if required.contains(&Value::from(name.as_str())) => "*required*".to_owned(),
            Value::Null => NO_DEFAULT.to_owned(),
            Value::String(text) if text.is_empty() => NO_DEFAULT.to_owned(),
            Value::Object(fields) if !fields.is_empty() => NO_DEFAULT.to_owned(),
            default => code(&default.to_string()),
        };
        let meaning = cell(field["description"].as_str().unwrap_or_default());
        let (kind, inner) = kind(field, definitions);
        text += &format!("| {} | {kind} | {default} | {meaning} |\n", code(name));
        if let Some(inner) = inner {
            let list = if field["items"].is_object() { "[]" } else { "" };
            let path = format!("{path}{name}{list}");
            let about = inner["description"].as_str().unwrap_or_default();
            below += &format!(
                "\n## `{path}`\n\n{}\n\n{}",
                prose(about),
                object(&format!("{path}."), inner, definitions)
            );
        }
    }
    text + &below
}

/// The type of a field, and the object in it that has a table of its own.
fn kind<'a>(field: &'a Value, definitions: &'a Map<String, Value>) -> (String, Option<&'a Value>) {
    if let Some(reference) = field["$ref"].as_str() {
        let name = reference.rsplit('/').next().expect("a name");
        let definition = &definitions[name];
        return if definition["properties"].is_object() {
            ("object".to_owned(), Some(definition))
        } else {
            kind(definition, definitions)
        };
    }
    if let Some(choices) = field["oneOf"].as_array().or(field["anyOf"].as_array()) {
        let names =
            choices.iter().filter(|choice| choice["type"] != "null").map(|choice| match &choice["const"] {
                Value::String(text) => code(text),
                _ if choice["$ref"].is_string() => kind(choice, definitions).0,
                _ => {
                    let fields = choice["properties"].as_object().into_iter().flatten();
                    code(&format!(
                        "{{{}: …}}",
                        fields.map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ")
                    ))
                }
            });
        return (names.collect::<Vec<_>>().join(", "), None);
    }
    let name = match &field["type"] {
        Value::Array(names) => names.iter().find_map(|name| name.as_str().filter(|name| *name != "null")),
        name => name.as_str(),
    };
    match name.expect("a type") {
        "array" => {
            let (of, inner) = kind(&field["items"], definitions);
            (format!("list of {of}s"), inner)
        }
        "object" => ("map of strings".to_owned(), None),
        name => {
            let bound = |key: &str| field[key].as_number().map(ToString::to_string);
            let range = bound("minimum").zip(bound("maximum"));
            (
                format!("{name}{}", range.map_or(String::new(), |(low, high)| format!(", {low} to {high}"))),
                None,
            )
        }
    }
}
