//! A server that knows the answers to the project's own documents and counts who asks what. Raw TCP, so that it can
//! fail in every way.

use crate::setup::own_documents;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::Instant;

/// One request.
#[derive(Clone, Debug)]
pub struct Asked {
    /// How many came before.
    pub before: usize,
    /// Numbers of the documents that it asks for.
    pub documents: Vec<usize>,
    /// How often the first of them was asked before.
    pub times: usize,
    /// Path of the request.
    pub path: String,
    /// Its body.
    pub body: Value,
    /// When it came.
    pub at: Instant,
}

/// What is done about a request.
#[derive(Clone, Debug)]
pub enum Act {
    /// The answer of the book: right but for each fourth document.
    Answer,
    /// This text, whatever is asked.
    Say(&'static str),
    /// A status with these further lines of the head and this body.
    Status(&'static str, &'static str, &'static str),
    /// The head and half a body, then a reset.
    Reset,
    /// Nothing, for ever.
    Hang,
    /// The answer, later.
    After(Duration),
}

type Rule = Box<dyn Fn(&Asked) -> Act + Send + Sync>;

/// The server.
pub struct Examiner {
    /// Its base URL.
    pub url: String,
    state: Arc<State>,
    task: tokio::task::JoinHandle<()>,
}

struct State {
    rule: Rule,
    asked: Mutex<Vec<Asked>>,
    /// Document by question.
    documents: HashMap<String, usize>,
    answers: Vec<String>,
}

impl Examiner {
    /// One that answers everything.
    pub fn start() -> Self {
        Self::with(|_| Act::Answer)
    }

    pub fn with(rule: impl Fn(&Asked) -> Act + Send + Sync + 'static) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener: TcpListener = socket.listen(4096).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let own = own_documents();
        let state = Arc::new(State {
            rule: Box::new(rule),
            asked: Mutex::default(),
            documents: own.iter().enumerate().map(|(n, doc)| (text(&doc["question"]), n)).collect(),
            answers: own.iter().map(|doc| text(&doc["answer"])).collect(),
        });
        let serving = Arc::clone(&state);
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let (connection, _) = listener.accept().await.unwrap();
                connections.spawn(serve(connection, Arc::clone(&serving)));
            }
        });
        Self { url, state, task }
    }

    /// Every request so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.state.asked.lock().unwrap().clone()
    }

    /// How often each document was asked for, and that there is none else.
    pub fn times(&self) -> Vec<usize> {
        let mut times = vec![0; self.state.answers.len()];
        for asked in self.asked() {
            asked.documents.iter().for_each(|&document| times[document] += 1);
        }
        times
    }
}

impl Drop for Examiner {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// True of the documents that the book's answer is right for.
pub fn is_right(document: usize) -> bool {
    document % 4 != 3
}

impl State {
    /// The documents of a body: of a prompt, of a list of them, or of a conversation.
    fn documents(&self, body: &Value) -> Vec<usize> {
        let texts: Vec<&str> = match (&body["prompt"], &body["messages"]) {
            (Value::String(prompt), _) => vec![prompt],
            (Value::Array(prompts), _) => prompts.iter().map(|prompt| prompt.as_str().unwrap()).collect(),
            (_, Value::Array(messages)) => vec![messages.last().unwrap()["content"].as_str().unwrap()],
            _ => panic!("neither prompt nor messages: {body}"),
        };
        texts.into_iter().map(|text| self.document(text)).collect()
    }

    fn document(&self, text: &str) -> usize {
        let question = text.rsplit("Question: ").next().unwrap();
        let question = question.rsplit_once("\nAnswer:").map_or(question, |(question, _)| question);
        *self.documents.get(question).unwrap_or_else(|| panic!("no document: {text}"))
    }

    fn answer(&self, document: usize) -> String {
        match is_right(document) {
            true => format!(" {}", self.answers[document]),
            false => " I guess.\n#### 1234567".to_owned(),
        }
    }

    /// A whole answer: the book's, or this text.
    fn ok(&self, asked: &Asked, say: Option<&str>) -> Vec<u8> {
        let text_of = |document: usize| say.map_or_else(|| self.answer(document), str::to_owned);
        let chat = asked.path.ends_with("/chat/completions");
        let logprobs = !asked.body["logprobs"].is_null();
        let choice = |(index, &document): (usize, &usize)| {
            let text = text_of(document);
            let mut choice = json!({"index": index, "finish_reason": "stop"});
            if logprobs {
                choice["logprobs"] = json!({
                    "tokens": [text], "token_logprobs": [-0.1], "top_logprobs": [{text.clone(): -0.1, "other": -2.5}],
                });
            }
            match chat {
                true => choice["message"] = json!({"role": "assistant", "content": text}),
                false => choice["text"] = json!(text),
            }
            choice
        };
        // In the wrong order: only `index` tells.
        let choices: Vec<Value> = asked.documents.iter().enumerate().map(choice).rev().collect();
        let usage =
            json!({"prompt_tokens": 100, "completion_tokens": 20 * choices.len(), "total_tokens": 120});
        if asked.body["stream"] == true {
            return streamed(&text_of(asked.documents[0]), chat);
        }
        let body =
            json!({"id": "x", "object": "text_completion", "choices": choices, "usage": usage}).to_string();
        format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
        .into_bytes()
    }
}

/// A text as a stream, word by word.
fn streamed(text: &str, chat: bool) -> Vec<u8> {
    let event = |value: Value| format!("data: {value}\n\n");
    let choice = |choice: Value| event(json!({"id": "x", "choices": [choice]}));
    let piece = |piece: &str, end: Value| match chat {
        true => choice(json!({"index": 0, "delta": {"content": piece}, "finish_reason": end})),
        false => choice(json!({"index": 0, "text": piece, "finish_reason": end})),
    };
    let mut body: String = text.split_inclusive(' ').map(|word| piece(word, Value::Null)).collect();
    body += &piece("", json!("stop"));
    let usage = json!({"prompt_tokens": 100, "completion_tokens": text.split_inclusive(' ').count()});
    body += &event(json!({"id": "x", "choices": [], "usage": usage}));
    body += "data: [DONE]\n\n";
    format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

async fn serve(mut connection: TcpStream, state: Arc<State>) {
    connection.set_nodelay(true).unwrap();
    while let Some((method, path, body)) = read_request(&mut connection).await {
        if method == "GET" {
            let body = r#"{"object":"list","data":[{"id":"examined","object":"model"}]}"#;
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
            connection.write_all(answer.as_bytes()).await.unwrap();
            continue;
        }
        let body: Value = serde_json::from_slice(&body).unwrap();
        let asked = {
            let mut all = state.asked.lock().unwrap();
            let documents = state.documents(&body);
            let times = all.iter().filter(|asked| asked.documents.contains(&documents[0])).count();
            let asked = Asked { before: all.len(), documents, times, path, body, at: Instant::now() };
            all.push(asked.clone());
            asked
        };
        let bytes = match (state.rule)(&asked) {
            Act::Answer => state.ok(&asked, None),
            Act::Say(text) => state.ok(&asked, Some(text)),
            Act::After(time) => {
                tokio::time::sleep(time).await;
                state.ok(&asked, None)
            }
            Act::Status(status, head, body) => {
                format!("HTTP/1.1 {status}\r\n{head}content-length: {}\r\n\r\n{body}", body.len())
                    .into_bytes()
            }
            Act::Reset => {
                let answer = state.ok(&asked, None);
                connection.write_all(&answer[..answer.len() / 2]).await.unwrap();
                // So that what was sent is read before it is lost.
                tokio::time::sleep(Duration::from_millis(5)).await;
                socket2::SockRef::from(&connection).set_linger(Some(Duration::ZERO)).unwrap();
                return;
            }
            Act::Hang => {
                let _ = connection.read_to_end(&mut Vec::new()).await;
                return;
            }
        };
        if connection.write_all(&bytes).await.is_err() {
            return;
        }
    }
}

/// Method, path and body of a request; `None` when the client is gone.
async fn read_request(connection: &mut TcpStream) -> Option<(String, String, Vec<u8>)> {
    let mut bytes = Vec::new();
    let head_end = loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        if connection.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8_lossy(&bytes[..head_end]).into_owned();
    let lower = head.to_lowercase();
    let length = lower.lines().find_map(|line| line.strip_prefix("content-length: "));
    let whole = head_end + length.map_or(0, |length| length.trim().parse().unwrap());
    while bytes.len() < whole {
        if connection.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
    let mut words = head.split(' ').map(str::to_owned);
    Some((words.next()?, words.next()?, bytes.split_off(head_end)))
}
