package rest

import (
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	orchestrationv1 "tollmesh.dev/gen/go/payments/orchestration/v1"
)

const webhookMethod = "/payments.orchestration.v1.PaymentService/ReceiveWebhook"

func answerWebhooks(proto.Message, grpc.ServerStream) (proto.Message, error) {
	return &orchestrationv1.ReceiveWebhookResponse{EventId: "evt_1"}, nil
}

// What a processor sends travels as it is, with all that its signature may be about; its key stands in the address.
func TestWebhooksTravelWithTheirHeadersAndTheKeyOfTheirAddress(t *testing.T) {
	mesh := newMesh(t, map[string]answer{webhookMethod: answerWebhooks})
	body := "{\"id\":  \"evt_1\"}\n"
	newClient(t, mesh.address, defaults).do("POST", "/v1/processors/stripe/webhooks?key=tm_1", body,
		"Stripe-Signature", "t=1,v1=ab", "Content-Type", "application/json; charset=utf-8", "Cookie", "a=b").want(200)
	seen := mesh.only()
	request := seen.request.(*orchestrationv1.ReceiveWebhookRequest)
	if request.GetProcessorId() != "stripe" || string(request.GetRawRequest()) != body {
		t.Errorf("%v", request)
	}
	headers := request.GetHeaders()
	if headers["stripe-signature"] != "t=1,v1=ab" || headers["content-type"] != "application/json; charset=utf-8" {
		t.Errorf("%v", headers)
	}
	for _, name := range []string{"authorization", "cookie"} {
		if _, there := headers[name]; there {
			t.Errorf("%s was handed on", name)
		}
	}
	if got := seen.metadata.Get("authorization"); len(got) != 1 || got[0] != "Bearer tm_1" {
		t.Errorf("authorization: %v", got)
	}
}

func TestWebhooksWithAKeyInAHeaderNeedNoneInTheirAddress(t *testing.T) {
	mesh := newMesh(t, map[string]answer{webhookMethod: answerWebhooks})
	newClient(t, mesh.address, defaults).do("POST", "/v1/processors/stripe/webhooks", "{}", "Authorization", "Bearer k").want(200)
	if got := mesh.only().metadata.Get("authorization"); len(got) != 1 || got[0] != "Bearer k" {
		t.Errorf("authorization: %v", got)
	}
}

func TestAKeyInAnAddressIsTakenOnlyOnceAndOnlyForWebhooks(t *testing.T) {
	mesh := newMesh(t, map[string]answer{webhookMethod: answerWebhooks})
	client := newClient(t, mesh.address, defaults)
	client.do("POST", "/v1/processors/stripe/webhooks?key=a&key=b", "{}").wantReason(400, "INVALID_FIELD")
	client.do("POST", "/v1/processors/stripe/webhooks?key=a", "{}", "Authorization", "Bearer k").wantReason(400, "INVALID_FIELD")
	client.do("POST", "/v1/processors/stripe/webhooks?key=a&other=b", "{}").wantReason(400, "INVALID_FIELD")
	client.do("POST", "/v1/payments?key=a", "{}").wantReason(400, "INVALID_FIELD")
	if mesh.count() != 0 {
		t.Errorf("%d calls travelled", mesh.count())
	}
}
