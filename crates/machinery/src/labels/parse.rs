//! The grammar of label selectors in query strings.

use std::collections::BTreeSet;

use super::{Operator, Requirement};
use crate::field::{ErrorType, FieldError, Path};
use crate::names;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Token {
    End,
    Close,
    Comma,
    Not,
    DoubleEquals,
    Equals,
    Greater,
    Identifier,
    In,
    Less,
    NotEquals,
    NotIn,
    Open,
}

impl Token {
    fn of(text: &str) -> Option<Self> {
        Some(match text {
            ")" => Self::Close,
            "," => Self::Comma,
            "!" => Self::Not,
            "==" => Self::DoubleEquals,
            "=" => Self::Equals,
            ">" => Self::Greater,
            "in" => Self::In,
            "<" => Self::Less,
            "!=" => Self::NotEquals,
            "notin" => Self::NotIn,
            "(" => Self::Open,
            _ => return None,
        })
    }
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

fn is_symbol(c: char) -> bool {
    matches!(c, '=' | '!' | '(' | ')' | ',' | '>' | '<')
}

/// Splits the text into tokens; the last is always [`Token::End`].
fn scan(text: &str) -> Vec<(Token, String)> {
    let mut tokens = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches(is_space);
        let Some(first) = rest.chars().next().filter(|c| *c != '\0') else {
            tokens.push((Token::End, String::new()));
            return tokens;
        };
        let end = if is_symbol(first) {
            symbol_length(rest)
        } else {
            let stop = |c: char| is_symbol(c) || is_space(c) || c == '\0';
            rest.find(stop).unwrap_or(rest.len())
        };
        let (word, tail) = rest.split_at(end);
        let token = Token::of(word).unwrap_or(Token::Identifier);
        tokens.push((token, word.to_owned()));
        rest = tail;
    }
}

/// Every symbol is a token of its own, but for `==` and `!=`.
fn symbol_length(rest: &str) -> usize {
    if rest.starts_with("==") || rest.starts_with("!=") {
        2
    } else {
        1
    }
}

struct Parser {
    tokens: Vec<(Token, String)>,
    position: usize,
}

/// `in` and `notin` are operators only behind a key; elsewhere they are ordinary words.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Operator,
    Value,
}

impl Parser {
    fn peek(&self, place: Place) -> (Token, &str) {
        let (token, word) = &self.tokens[self.position.min(self.tokens.len() - 1)];
        match (place, token) {
            (Place::Value, Token::In | Token::NotIn) => (Token::Identifier, word),
            _ => (*token, word),
        }
    }

    fn next(&mut self, place: Place) -> (Token, String) {
        let (token, word) = self.peek(place);
        let word = word.to_owned();
        self.position += 1;
        (token, word)
    }

    fn requirement(&mut self) -> Result<Requirement, String> {
        let (mut token, mut key) = self.next(Place::Value);
        let negated = token == Token::Not;
        if negated {
            (token, key) = self.next(Place::Value);
        }
        if token != Token::Identifier {
            return Err(format!("found '{key}', expected: identifier"));
        }
        let messages = names::label_key(&key);
        if !messages.is_empty() {
            let error = FieldError {
                kind: ErrorType::Invalid,
                path: Path::new("<nil>"),
                value: Some(key.as_str().into()),
                shown: None,
                detail: messages.join("; "),
            };
            return Err(error.to_string());
        }
        if negated {
            return Requirement::new(&key, Operator::DoesNotExist, Vec::new());
        }
        if matches!(self.peek(Place::Value).0, Token::End | Token::Comma) {
            return Requirement::new(&key, Operator::Exists, Vec::new());
        }
        let operator = self.operator()?;
        let values = match operator {
            Operator::In | Operator::NotIn => self.values()?,
            _ => BTreeSet::from([self.exact_value()?]),
        };
        Requirement::new(&key, operator, values.into_iter().collect())
    }

    fn operator(&mut self) -> Result<Operator, String> {
        let (token, word) = self.next(Place::Operator);
        Ok(match token {
            Token::In => Operator::In,
            Token::NotIn => Operator::NotIn,
            Token::Equals => Operator::Equals,
            Token::DoubleEquals => Operator::DoubleEquals,
            Token::NotEquals => Operator::NotEquals,
            Token::Greater => Operator::GreaterThan,
            Token::Less => Operator::LessThan,
            _ => {
                return Err(format!(
                    "found '{word}', expected: in, notin, =, ==, !=, gt, lt"
                ));
            }
        })
    }

    fn values(&mut self) -> Result<BTreeSet<String>, String> {
        let (token, word) = self.next(Place::Value);
        if token != Token::Open {
            return Err(format!("found '{word}' expected: '('"));
        }
        match self.peek(Place::Value) {
            (Token::Identifier | Token::Comma, _) => {
                let list = self.identifiers()?;
                let (token, word) = self.next(Place::Value);
                if token == Token::Close {
                    Ok(list)
                } else {
                    Err(format!("found '{word}', expected: ')'"))
                }
            }
            (Token::Close, _) => {
                self.next(Place::Value);
                Ok(BTreeSet::from([String::new()]))
            }
            (_, word) => Err(format!("found '{word}', expected: ',', ')' or identifier")),
        }
    }

    /// A list whose elements may be empty.
    fn identifiers(&mut self) -> Result<BTreeSet<String>, String> {
        let mut list = BTreeSet::new();
        loop {
            let (token, word) = self.next(Place::Value);
            match token {
                Token::Identifier => {
                    list.insert(word);
                    match self.peek(Place::Value) {
                        (Token::Comma, _) => {}
                        (Token::Close, _) => return Ok(list),
                        (_, word) => return Err(format!("found '{word}', expected: ',' or ')'")),
                    }
                }
                Token::Comma => {
                    if list.is_empty() {
                        list.insert(String::new());
                    }
                    match self.peek(Place::Value).0 {
                        Token::Close => {
                            list.insert(String::new());
                            return Ok(list);
                        }
                        Token::Comma => {
                            list.insert(String::new());
                        }
                        _ => {}
                    }
                }
                _ => return Err(format!("found '{word}', expected: ',', or identifier")),
            }
        }
    }

    fn exact_value(&mut self) -> Result<String, String> {
        if matches!(self.peek(Place::Value).0, Token::End | Token::Comma) {
            return Ok(String::new());
        }
        match self.next(Place::Value) {
            (Token::Identifier, word) => Ok(word),
            (_, word) => Err(format!("found '{word}', expected: identifier")),
        }
    }
}

pub(super) fn parse(text: &str) -> Result<Vec<Requirement>, String> {
    let tokens = scan(text);
    let mut parser = Parser {
        tokens,
        position: 0,
    };
    let mut requirements = Vec::new();
    loop {
        match parser.peek(Place::Value) {
            (Token::Identifier | Token::Not, _) => {}
            (Token::End, _) => return Ok(requirements),
            (_, word) => {
                return Err(format!(
                    "found '{word}', expected: !, identifier, or 'end of string'"
                ));
            }
        }
        let requirement = parser.requirement();
        requirements.push(requirement.map_err(|e| format!("unable to parse requirement: {e}"))?);
        match parser.next(Place::Value) {
            (Token::End, _) => return Ok(requirements),
            (Token::Comma, _) => match parser.peek(Place::Value) {
                (Token::Identifier | Token::Not, _) => {}
                (_, word) => {
                    return Err(format!("found '{word}', expected: identifier after ','"));
                }
            },
            (_, word) => return Err(format!("found '{word}', expected: ',' or 'end of string'")),
        }
    }
}
