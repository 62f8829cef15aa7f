package rest

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	ledgerv1 "tollmesh.dev/gen/go/payments/ledger/v1"
)

const (
	good = `{"transfer_id": "t", "debit_account_id": "a", "credit_account_id": "b", "amount": {"currency_code": "USD", "minor_units": "5"}}`
	half = `{"transfer_id": "h", "metadata": {"k": "\ud800"}, "credit_account_id": "b"}`
)

func posted(t *testing.T, body string) *ledgerv1.PostTransfersRequest {
	t.Helper()
	mesh := newMesh(t, nil)
	newClient(t, mesh.address, defaults).do("POST", "/v1/ledger/transfers", body).want(200)
	return mesh.only().request.(*ledgerv1.PostTransfersRequest)
}

// One bad item never fails its batch: it goes on with what could be read of it, and why the rest could not.
func TestAnItemThatDoesNotReadGoesOnAlone(t *testing.T) {
	for _, bad := range []string{
		half,
		"{\"transfer_id\": \"h\", \"metadata\": {\"k\": \"\xff\"}}",
		`{"transfer_id": "h", "unknown": 1}`,
		`{"transferId": "h", "code": "x"}`,
		`{"transfer_id": "h", "amount": 5}`,
		`{"transfer_id": "h", "amount": NaN}`,
		`{"transfer_id": "h", "amount": {"minor_units": 1.5}}`,
	} {
		for _, body := range []string{`{"transfers": [%s, %s, %s]}`, " {\n\"transfers\" : [ %s\n,%s , %s] }\n"} {
			request := posted(t, fmt.Sprintf(body, good, bad, good))
			if len(request.GetTransfers()) != 3 || len(request.GetUnreadable()) != 1 || request.GetUnreadable()[1] == "" {
				t.Fatalf("%s: %v", bad, request)
			}
			for i, id := range []string{"t", "h", "t"} {
				if got := request.GetTransfers()[i].GetTransferId(); got != id {
					t.Errorf("%s: item %d is %q", bad, i, got)
				}
			}
		}
	}
	if many := posted(t, `{"transfers": [`+strings.Repeat(half+",", 99)+half+`]}`); len(many.GetUnreadable()) != 100 {
		t.Errorf("%d of 100", len(many.GetUnreadable()))
	}
	if whole := posted(t, `{"transfers": [`+good+`]}`); len(whole.GetUnreadable()) != 0 {
		t.Errorf("a batch that reads: %v", whole)
	}
	if one := posted(t, `{"transfers": [5, null, "x", [], `+half+`]}`); len(one.GetUnreadable()) != 5 || one.GetTransfers()[4].GetCreditAccountId() != "b" {
		t.Errorf("%v", one)
	}
}

// What follows a transfer in its chain is not posted without it, whatever could be read of it.
func TestAFlagThatCannotBeReadCountsAsSet(t *testing.T) {
	for item, linked := range map[string]bool{
		`{"metadata": {"k": "\ud800"}, "linked": true}`:                  true,
		`{"linked": true, "metadata": {"k": "\ud800"}}`:                  true,
		`{"metadata": {"k": "\ud800"}, "linked": false}`:                 false,
		`{"metadata": {"k": "\ud800"}}`:                                  false,
		`{"linked": "yes"}`:                                              true,
		`{"linked": true, "linked": false}`:                              true,
		`{"linked": false, "linked": true}`:                              true,
		`{"metadata": {"k": NaN}, "linked": true}`:                       true,
		`{"metadata": {"k": NaN}}`:                                       true,
		`{"linked": null, "code": "x"}`:                                  false,
		`{"code": "x", "metadata": {"linked": "true"}, "unknown": true}`: false,
	} {
		request := posted(t, `{"transfers": [`+item+`, `+good+`]}`)
		if got := request.GetTransfers()[0].GetLinked(); got != linked || request.GetTransfers()[1].GetLinked() {
			t.Errorf("%s: linked is %v", item, got)
		}
		if got := slices.Collect(maps.Keys(request.GetUnreadable())); len(got) != 1 || got[0] != 0 {
			t.Errorf("%s: %v", item, request)
		}
	}
}

func TestABodyThatIsNoBatchIsRefusedAsAWhole(t *testing.T) {
	mesh := newMesh(t, nil)
	client := newClient(t, mesh.address, defaults)
	for _, body := range []string{
		`{"transfers": [` + half + `]`, `{"transfers": [` + half + `}`, `{"transfers": [` + half + `]} x`,
		`{"transfers": [` + half + `], "transfers": []}`, `{"transfer": [` + half + `]}`, `{"transfers": {"a": ` + half + `}}`,
		`[` + half + `]`, `{"unreadable": {"0": 5}, "transfers": [` + half + `]}`, `{"transfers": [` + half + ` ` + half + `]}`,
		`{"transfers" [` + half + `]}`, `{"transfers":`, `{"transfers": [` + half + `], "unreadable": {}}`,
	} {
		client.do("POST", "/v1/ledger/transfers", body).wantReason(400, "UNDECODABLE_REQUEST")
	}
	client.do("POST", "/v1/ledger/transfers", `{"transfers": [`+strings.Repeat("5,", itemsMax)+`5]}`).wantReason(400, "BATCH_TOO_LARGE")
	if mesh.count() != 0 {
		t.Errorf("%d calls travelled", mesh.count())
	}
}
