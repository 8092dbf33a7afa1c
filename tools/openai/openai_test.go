package openai

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/openai/openai-go/v3"
)

const asked = "What is the capital of France?"

func chatParams(model string) openai.ChatCompletionNewParams {
	return openai.ChatCompletionNewParams{Model: model, Messages: []openai.ChatCompletionMessageParamUnion{
		openai.SystemMessage("Answer briefly."), openai.UserMessage(asked),
	}}
}

// TestOpenAIClient is the conformance test with the official client.
func TestOpenAIClient(t *testing.T) {
	t.Parallel()
	s := serve(t, []string{"VLLM_API_KEY=sk-1"}, "--served-model-name", "qwen", "small", "--max-model-len", "4k")
	api, ctx := s.openAI("sk-1"), t.Context()

	models, err := api.Models.List(ctx)
	if err != nil || len(models.Data) != 2 || models.Data[0].ID != "qwen" || models.Data[0].OwnedBy != "vllm" {
		t.Fatalf("models: %+v, %v", models, err)
	}
	if raw := models.Data[1].RawJSON(); !strings.Contains(raw, `"max_model_len":4000`) || !strings.Contains(raw, `"root":"`+testModel+`"`) {
		t.Errorf("model: %s", raw)
	}

	chat, err := api.Chat.Completions.New(ctx, chatParams("small"))
	if err != nil {
		t.Fatal(err)
	}
	answer := chat.Choices[0].Message.Content
	if !strings.HasPrefix(answer, "The capital of France is Paris.") || !strings.Contains(answer, "qwen") || !strings.Contains(answer, asked) || chat.Choices[0].FinishReason != "stop" {
		t.Errorf("chat: %+v", chat.Choices[0])
	}
	if u := chat.Usage; u.PromptTokens == 0 || u.CompletionTokens == 0 || u.TotalTokens != u.PromptTokens+u.CompletionTokens {
		t.Errorf("usage: %+v", u)
	}
	again, err := api.Chat.Completions.New(ctx, chatParams("small"))
	if err != nil || again.Choices[0].Message.Content != answer {
		t.Errorf("the same question has another answer: %v, %v", again, err)
	}

	limited, err := api.Completions.New(ctx, openai.CompletionNewParams{
		Model: "qwen", Prompt: openai.CompletionNewParamsPromptUnion{OfString: openai.String(asked)}, MaxTokens: openai.Int(3),
	})
	if err != nil || limited.Choices[0].FinishReason != "length" || limited.Usage.CompletionTokens != 3 || !strings.HasPrefix(answer, limited.Choices[0].Text) {
		t.Errorf("completion: %+v, %v", limited, err)
	}
	stopped, err := api.Completions.New(ctx, openai.CompletionNewParams{
		Model: "qwen", Prompt: openai.CompletionNewParamsPromptUnion{OfString: openai.String(asked)}, MaxTokens: openai.Int(100),
		Stop: openai.CompletionNewParamsStopUnion{OfString: openai.String("Paris")},
	})
	if err != nil || !strings.HasPrefix(stopped.Choices[0].Text, "The capital of France is") || strings.Contains(stopped.Choices[0].Text, "Paris") || stopped.Choices[0].FinishReason != "stop" {
		t.Errorf("completion with stop: %+v, %v", stopped, err)
	}
}

func TestOpenAIStreaming(t *testing.T) {
	t.Parallel()
	s := serve(t, nil)
	api := s.openAI("anything")
	whole, err := api.Chat.Completions.New(t.Context(), chatParams(testModel))
	if err != nil {
		t.Fatal(err)
	}
	params := chatParams(testModel)
	params.StreamOptions = openai.ChatCompletionStreamOptionsParam{IncludeUsage: openai.Bool(true)}
	stream := api.Chat.Completions.NewStreaming(t.Context(), params)
	defer stream.Close()
	all, chunks := openai.ChatCompletionAccumulator{}, 0
	for stream.Next() {
		if !all.AddChunk(stream.Current()) {
			t.Fatalf("chunk %d does not fit: %+v", chunks, stream.Current())
		}
		chunks++
	}
	if err := stream.Err(); err != nil {
		t.Fatal(err)
	}
	if chunks < 10 || all.Choices[0].Message.Content != whole.Choices[0].Message.Content || all.Choices[0].FinishReason != "stop" || all.Usage.TotalTokens != whole.Usage.TotalTokens {
		t.Errorf("%d chunks: %+v\nwant %+v", chunks, all.ChatCompletion, whole)
	}
	text := api.Completions.NewStreaming(t.Context(), openai.CompletionNewParams{
		Model: testModel, Prompt: openai.CompletionNewParamsPromptUnion{OfString: openai.String(asked)}, MaxTokens: openai.Int(5),
	})
	defer text.Close()
	var got strings.Builder
	reason := ""
	for text.Next() {
		choice := text.Current().Choices[0]
		got.WriteString(choice.Text)
		reason = string(choice.FinishReason)
	}
	if err := text.Err(); err != nil || reason != "length" || got.String() != "The capital of France is" {
		t.Errorf("streamed %q, %s, %v", got.String(), reason, err)
	}
}

func TestOpenAIErrors(t *testing.T) {
	t.Parallel()
	s := serve(t, []string{"VLLM_API_KEY=sk-1"}, "--max-model-len", "512")
	long := strings.Repeat("word ", 600)
	for _, test := range []struct {
		name, key string
		params    openai.ChatCompletionNewParams
		status    int
		message   string
	}{
		{"unknown model", "sk-1", chatParams("gpt-4"), 404, "The model `gpt-4` does not exist."},
		{"prompt too long", "sk-1", openai.ChatCompletionNewParams{Model: testModel, Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage(long)}}, 400, "This model's maximum context length is 512 tokens. However, your request has"},
		{"answer too long", "sk-1", func() openai.ChatCompletionNewParams {
			p := chatParams(testModel)
			p.MaxCompletionTokens = openai.Int(1000)
			return p
		}(), 400, "max_tokens=1000 cannot be greater than max_model_len=512."},
		{"no tokens", "sk-1", func() openai.ChatCompletionNewParams {
			p := chatParams(testModel)
			p.MaxTokens = openai.Int(0)
			return p
		}(), 400, "max_tokens must be at least 1, got 0."},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			api := s.openAI(test.key)
			_, err := api.Chat.Completions.New(t.Context(), test.params)
			var refused *openai.Error
			if !errors.As(err, &refused) {
				t.Fatalf("error = %v, want the API's", err)
			}
			if refused.StatusCode != test.status || !strings.Contains(refused.RawJSON(), test.message) {
				t.Errorf("%d %s, want %d %q", refused.StatusCode, refused.RawJSON(), test.status, test.message)
			}
		})
	}
	wrong := s.openAI("sk-2")
	// vLLM's 401 is not of the API's form, so the client can't make its error of it.
	if _, err := wrong.Models.List(t.Context()); err == nil {
		t.Error("a wrong key lists the models")
	}
	api := s.openAI("sk-1")
	_, err := api.Embeddings.New(t.Context(), openai.EmbeddingNewParams{Model: testModel, Input: openai.EmbeddingNewParamsInputUnion{OfString: openai.String("x")}})
	var refused *openai.Error
	if !errors.As(err, &refused) || refused.StatusCode != http.StatusNotFound {
		t.Errorf("embeddings: %v", err)
	}
}
