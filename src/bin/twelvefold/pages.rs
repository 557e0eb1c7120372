//! `completions` and `man`.

use clap::CommandFactory;
use clap_complete::Shell;
use clap_mangen::Man;
use twelvefold::Error;

use super::arguments::Arguments;

pub(crate) fn completions(shell: Shell) -> String {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "twelvefold", &mut text);
    String::from_utf8_lossy(&text).into_owned()
}

pub(crate) fn manual(name: Option<&str>) -> Result<String, Error> {
    let mut command = Arguments::command();
    command.build();
    if let Some(name) = name {
        let found = command.find_subcommand(name).cloned();
        let title = format!("twelvefold-{name}");
        command = found
            .ok_or_else(|| Error::Setting {
                name: "man",
                value: name.to_owned(),
                allowed: "give the name of a command, such as train".to_owned(),
            })?
            .name(title);
    }
    let mut text = Vec::new();
    Man::new(command)
        .render(&mut text)
        .map_err(|e| Error::input(format!("the manual page cannot be written: {e}"), ""))?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}
