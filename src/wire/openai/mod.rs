//! The OpenAI dialect that vLLM speaks: request bodies, stream chunks, whole answers, error objects.

mod body;
mod chunk;
mod logprobs;

pub use body::{BodyOptions, ChatContent, TokensField, head, head_with, request_body};
pub use chunk::{Answer, BadChunk, Choice, Chunk, ChunkReader, Piece, ServerError, Usage, read_answer};
pub use logprobs::LikelyToken;
