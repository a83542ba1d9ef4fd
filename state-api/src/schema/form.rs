//! The form of a type as a self-describing codec stores it: the names of fields and variants, and what each
//! holds. A restore compares the stored form with that of the program before anything is read.

use serde::de::DeserializeOwned;

mod text;
mod trace;

/// The longest text of a form that is stored; a type with a longer one has none.
pub(super) const MAX_TEXT: usize = 16 << 10;

/// What a type asks its deserializer for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// Unknown: a type within itself, or one that takes whatever is there.
    Any,
    Bool,
    Int {
        signed: bool,
        bits: u8,
    },
    Float(u8),
    Char,
    Str,
    Bytes,
    Unit,
    /// A point in time; only descriptions have it.
    Time,
    Option(Box<Self>),
    Seq(Box<Self>),
    Map(Box<Self>, Box<Self>),
    Tuple(Vec<Self>),
    Struct {
        fields: Vec<Field>,
        /// Whether an unknown field is an error.
        closed: bool,
    },
    Enum {
        /// What follows the name of each variant; [`Form::Unit`] for nothing.
        variants: Vec<(String, Self)>,
        /// Whether an unknown variant is no error.
        open: bool,
    },
}

/// A field of a struct.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Field {
    /// The name that is written, followed by the other names that are read.
    pub(super) names: Vec<String>,
    /// Whether the field may be missing.
    pub(super) optional: bool,
    pub(super) form: Form,
}

/// Returns the id of a self-describing codec called `name` for values of type `T`: the name, and behind it,
/// where `Deserialize` reveals it, the form of the type.
///
/// A [codec](crate::Codec) of your own that [describes itself](crate::Codec::is_self_describing) and returns
/// this id is protected as [`SelfDescribingCodec`](crate::SelfDescribingCodec) is: a restore refuses stored
/// values that the type cannot read, before it reads any. The codec must write structs with the names of their
/// fields. A name must not contain `#`.
pub fn self_describing_id<T: DeserializeOwned>(name: &str) -> String {
    id_with_form(name, trace::form_of::<T>())
}

fn id_with_form(name: &str, form: Option<Form>) -> String {
    match form.map(|form| form.to_string()) {
        Some(form) if form.len() <= MAX_TEXT => format!("{name}#{form}"),
        _ => name.to_owned(),
    }
}

impl Form {
    /// Returns the form in the id of a codec, if it has one.
    pub(crate) fn of_codec(id: &str) -> Option<Self> {
        let (_, text) = id.split_once('#')?;
        if text.len() > MAX_TEXT { None } else { text::parse(text) }
    }

    /// Returns the form of a type in an encoding without names: fields come in their order, and a variant is known
    /// by its number. `None` when `Deserialize` does not reveal it, or numbers variants otherwise.
    pub(super) fn by_position<T: DeserializeOwned>() -> Option<Self> {
        trace::form_by_position::<T>()
    }

    /// Reads the text of a form.
    pub(super) fn parse(text: &str) -> Option<Self> {
        text::parse(text)
    }

    /// Checks that a type of this form reads what is stored in another. `drops` is whether the type may lack
    /// stored fields.
    ///
    /// # Errors
    /// Returns the first difference, in words.
    pub(crate) fn reads(&self, stored: &Self, drops: bool) -> Result<(), String> {
        self.reads_at(stored, drops, &mut Vec::new())
    }

    fn reads_at<'f>(&'f self, stored: &'f Self, drops: bool, path: &mut Vec<&'f str>) -> Result<(), String> {
        let mut within = |wanted: &'f Self, stored: &'f Self, name: &'f str| {
            path.push(name);
            let result = wanted.reads_at(stored, drops, path);
            path.pop();
            result
        };
        let fits = match (stored, self) {
            (Self::Any, _) | (_, Self::Any) | (Self::Unit, Self::Option(_)) | (Self::Char, Self::Str) => true,
            (Self::Int { signed, bits }, Self::Int { signed: to_signed, bits: to_bits }) => {
                // 128 bits are stored in a form of their own.
                let wider = bits < to_bits && *to_bits < 128 && (*to_signed || !*signed);
                wider || (signed == to_signed && bits == to_bits)
            }
            (Self::Int { bits, .. }, Self::Float(to)) => u16::from(*bits) * 2 <= u16::from(*to),
            (Self::Float(bits), Self::Float(to)) => bits <= to,
            (Self::Option(stored), Self::Option(wanted)) => return within(wanted, stored, ""),
            (stored, Self::Option(wanted)) => return within(wanted, stored, ""),
            (Self::Seq(stored), Self::Seq(wanted)) => return within(wanted, stored, "[]"),
            (Self::Map(key, value), Self::Map(to_key, to_value)) => {
                within(to_key, key, "[key]")?;
                return within(to_value, value, "[]");
            }
            (Self::Tuple(stored), Self::Tuple(wanted)) if stored.len() == wanted.len() => {
                return stored.iter().zip(wanted).try_for_each(|(from, to)| within(to, from, "()"));
            }
            (Self::Tuple(stored), Self::Seq(wanted)) => {
                return stored.iter().try_for_each(|from| within(wanted, from, "[]"));
            }
            (Self::Struct { fields, .. }, Self::Map(key, value))
                if matches!(**key, Self::Str | Self::Any) =>
            {
                return fields.iter().try_for_each(|field| within(value, &field.form, field.name()));
            }
            (Self::Struct { fields, .. }, Self::Struct { fields: wanted, closed }) => {
                return fields_fit(fields, (wanted, *closed), drops, path);
            }
            (Self::Enum { variants, .. }, Self::Enum { variants: wanted, open }) => {
                return variants.iter().try_for_each(|(name, form)| {
                    match wanted.iter().find(|(known, _)| known == name) {
                        Some((_, to)) => within(to, form, name),
                        None if *open => Ok(()),
                        None => Err(format!("the stored type has the variant {name:?}, this one does not")),
                    }
                });
            }
            (stored, wanted) => stored == wanted,
        };
        if fits {
            return Ok(());
        }
        Err(format!("{} is stored as {stored}, and the type reads {self}", place(path)))
    }
}

impl Field {
    fn name(&self) -> &str {
        self.names.first().map_or("", String::as_str)
    }
}

fn fields_fit<'f>(
    stored: &'f [Field],
    (wanted, closed): (&'f [Field], bool),
    drops: bool,
    path: &mut Vec<&'f str>,
) -> Result<(), String> {
    let reader_of = |name: &str| wanted.iter().find(|field| field.names.iter().any(|known| known == name));
    for field in stored {
        path.push(field.name());
        match reader_of(field.name()) {
            Some(reader) => reader.form.reads_at(&field.form, drops, path)?,
            None if closed => return Err(format!("{} is stored, and the type refuses it", place(path))),
            None if !drops => {
                return Err(format!(
                    "{} is stored, and the type lacks it: a restore would drop it without a new version",
                    place(path)
                ));
            }
            None => {}
        }
        path.pop();
    }
    let is_stored =
        |field: &Field| stored.iter().any(|from| field.names.iter().any(|name| name == from.name()));
    let Some(missing) = wanted.iter().find(|field| !field.optional && !is_stored(field)) else {
        return Ok(());
    };
    path.push(missing.name());
    let message =
        format!("{} ({}) is not stored, and the type has no default for it", place(path), missing.form);
    path.pop();
    Err(message)
}

/// Names a part of a value.
fn place(path: &[&str]) -> String {
    let steps: Vec<_> = path.iter().filter(|step| !step.is_empty()).copied().collect();
    match steps[..] {
        [] => "the value".to_owned(),
        [..] => format!("the field {:?}", steps.join(".")),
    }
}

#[cfg(test)]
mod tests;
